"""What is dropped, opened or pasted: clips, recipes, pictures, model folders, workflows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QFileDialog

from app.controller import Controller
from app.models import OwnModels
from app.own_recipes import abroad, own_recipe
from app.pictures import PictureDesk
from app.workflows import WorkflowDesk
from core.errors import Category, Problem, ProblemError, invalid, problem_from
from core.formats import SEQUENCE
from core.queue import Group
from widgets.picture_field import SUFFIXES as PICTURES
from widgets.picture_field import picture_in

if TYPE_CHECKING:
    from app.window import MainWindow
    from core.engines.comfy.convert import Converted
    from core.engines.comfy.drafts import Draft
    from core.engines.comfy.workflows import Workflow
    from widgets.knob_picker import Offer

_FILTER = (
    "Clips, pictures, recipes and workflows (*.json *.mp4 *.m4v *.mov *.webm *.mkv "
    "*.png *.webp *.jpg *.jpeg *.bmp *.gif *.tif *.tiff);;Models and LoRAs (*.safetensors)"
)
_ROWS = 200
"""How many waiting jobs are looked through for those that need a workflow."""
_LISTS = (".csv", ".tsv", ".txt", ".jsonl")
_WEIGHTS = (".safetensors",)


@dataclass(frozen=True, slots=True)
class _Again:
    """A recipe of Framedeck's own and the values that a file holds for it."""

    recipe: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A draft with its knobs in words, which take a while when there are thousands."""

    draft: Draft
    offers: list[Offer]


@dataclass(frozen=True, slots=True)
class _Plain:
    """A picture that carries nothing."""

    path: str
    problem: Problem


@dataclass(frozen=True, slots=True)
class _Weights:
    """A file of weights, and whether it is a LoRA rather than a model."""

    path: Path
    lora: bool


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder, and whether it holds pictures rather than a model."""

    path: Path
    pictures: bool


class OpenDesk(QObject):
    """Looks into files beside the window, and shows what they are for.

    Also keeps the person's own workflows: added, edited, removed, and each of it undone.

    Signals:
        jobs_given: Path of a file or folder that holds many jobs.
    """

    jobs_given = Signal(object)

    def __init__(
        self,
        controller: Controller,
        window: MainWindow,
        models: OwnModels,
        workflows: WorkflowDesk,
        pictures: PictureDesk,
    ) -> None:
        super().__init__(window)
        self._controller, self._window, self._models = controller, window, models
        self._workflows, self._pictures = workflows, pictures
        self._compose, self._notice = window.panels.compose, window.panels.notice
        window.dropped.connect(self.open)
        menus = window.menus
        menus.open_recipe.triggered.connect(self._choose)
        menus.paste.triggered.connect(self.paste)
        menus.edit_workflow.triggered.connect(self.edit)
        menus.remove_workflow.triggered.connect(self.remove)
        workflows.offered.connect(self._offer_actions)
        self._compose.recipe_chosen.connect(self._offer_actions)
        self._offer_actions()

    # -- what comes in ----------------------------------------------------------

    def open(self, path: str) -> None:
        """Open a file or a model folder."""
        if Path(path).is_dir():
            known = frozenset(self._controller.recipes)
            self._look(lambda: _in_folder(Path(path), known, self._reader()))
            return
        if path.lower().endswith(_WEIGHTS):
            self._look(lambda: _weights(Path(path)))
            return
        if path.lower().endswith(_LISTS):
            self.jobs_given.emit(Path(path))
            return
        recipes = frozenset(self._controller.recipes)
        look = self._reader()
        self._look(lambda: _identify(Path(path), recipes, look))

    def paste(self) -> None:
        """Open what is in the clipboard: a file, a workflow's text, or a picture for the form."""
        data = QGuiApplication.clipboard().mimeData()
        paths = [url.toLocalFile() for url in data.urls() if url.toLocalFile()]
        found = picture_in(data)
        if paths:
            self.open(paths[0])
        elif data.hasText() and data.text().lstrip().startswith("{"):
            text, look = data.text(), self._reader()
            self._look(lambda: look(lambda info: _from_text(text, info), "Pasted workflow"))
        elif found is not None:
            self._give_picture(found, None)
        else:
            self._notice.show_text(
                "There is neither a workflow nor a picture in the clipboard.", key="open"
            )

    def _choose(self) -> None:
        start = str(self._controller.outputs)
        path, _ = QFileDialog.getOpenFileName(self._window, "Open", start, _FILTER)
        if path:
            # Dialogs choose no folders; who chose a picture in a sequence means all of it.
            folder = Path(path).parent
            self.open(str(folder) if folder.suffix == SEQUENCE else path)

    def _look(
        self, read: Callable[[], object], receive: Callable[[object], None] | None = None
    ) -> None:
        """Read beside the window; problems go to the notice bar."""

        def source() -> Iterator[object]:
            try:
                yield read()
            except (ProblemError, OSError) as error:
                yield problem_from(error)

        self._controller.run_aside(source, "open", receive or self._on_found)

    def _reader(self) -> Callable[[Callable[[Any], Converted], str], _Ready]:
        """Return what turns a way to read a workflow into a draft, for the server of now."""
        scan, base = self._workflows.scan(), self._workflows.server()
        server = self._workflows.server_title(base) if base else ""

        def make(read: Callable[[Any], Converted], title: str) -> _Ready:
            from core.engines.comfy.drafts import draft
            from core.engines.comfy.models import Known

            # What is no workflow at all needs no server to be told so.
            found = read(scan.info if scan is not None else {})
            if scan is None:
                raise _no_server(server)
            return _in_words(draft(found, scan.info, Known.load(), title, server))

        return make

    # -- what was found ---------------------------------------------------------

    def _on_found(self, found: object) -> None:
        match found:
            case _Again(recipe=recipe, params=params):
                self._compose.load(recipe, params)
                self._show_compose()
            case _Ready(draft=draft):
                same = next((w for w in self._workflows.own() if w.graph == draft.graph), None)
                if same is not None and draft.before is None:
                    self._compose.load(f"comfy-{same.id}", {})
                    self._notice.show_text(
                        f"This workflow is there already, as {same.title}.",
                        (("Edit form…", self.edit),),
                        key="open",
                    )
                else:
                    self._pick(draft, found.offers)
            case _Folder(path=folder, pictures=True):
                self.jobs_given.emit(folder)
            case _Folder(path=folder) | _Weights(path=folder, lora=False):
                self._controller.guard(lambda: self._models.add(folder))
            case _Weights(path=file):
                self._give_lora(file)
            case _Plain(path=path, problem=problem):
                self._give_picture(path, problem)
            case Problem():
                add = ()
                if found.category is Category.WORKER_UNAVAILABLE:
                    add = (("Add a server…", self._workflows.server_wanted.emit),)
                self._notice.show_problem(found, add, key="open")

    def _give_picture(self, found: object, problem: Problem | None) -> None:
        """Put a picture into the form, when that has a place for one."""
        fields = {n: f for n, f in self._compose.picture_fields().items() if f.suffixes is PICTURES}
        name = next((n for n, f in fields.items() if not f.raw()), next(iter(fields), ""))
        if not name:
            words = "The recipe shown takes no picture."
            self._notice.show_problem(
                problem or invalid("image", words, "Choose a recipe that does.").problem, key="open"
            )
        elif isinstance(found, str):
            self._compose.set_value(name, found)
        else:
            self._pictures.paste(name, found)  # type: ignore[arg-type]

    def _give_lora(self, file: Path) -> None:
        """Put a LoRA into the form, when the model shown takes one."""
        from core.engines.local.lora import FIELD

        if FIELD in self._compose.picture_fields():
            self._compose.set_value(FIELD, str(file))
            self._show_compose()
            return
        words = f"{file.name} is a LoRA, and the recipe shown takes none."
        hint = "Choose a recipe of a model that it was made for, and drop it again."
        self._notice.show_problem(invalid(FIELD, words, hint).problem, key="open")

    def _show_compose(self) -> None:
        dock = self._window.panels.docks["compose"]
        dock.show()
        dock.raise_()
        self._compose.focus_prompt()

    # -- the person's own workflows -------------------------------------------------

    def _offer_actions(self) -> None:
        workflow = self._workflows.shown()
        own = workflow is not None and workflow.own
        menus = self._window.menus
        menus.edit_workflow.setEnabled(own)
        menus.remove_workflow.setEnabled(own)
        links = (("Edit form…", self.edit), ("Remove", self.remove)) if own else ()
        self._compose.show_actions(links)

    def _pick(self, draft: Draft, offers: list[Offer]) -> None:
        from widgets.knob_picker import KnobPicker

        new = draft.before is None
        dialog = KnobPicker(draft.title, offers, draft.notes, self._window, new=new)

        def take(title: str, labels: Mapping[str, str]) -> None:
            from core.engines.comfy.drafts import picked

            text = f"{title} is a recipe now." if new else f"{title} was changed."
            self._store(lambda: picked(draft, title, labels), draft.before, text)

        dialog.chosen.connect(take)
        dialog.open()

    def edit(self) -> None:
        """Pick knobs of the workflow shown anew."""
        workflow, scan = self._workflows.shown(), self._workflows.scan()
        if workflow is None or not workflow.own:
            return

        def read() -> object:
            from core.engines.comfy.drafts import draft_of
            from core.engines.comfy.models import Known

            info = scan.info if scan is not None else None
            return _in_words(draft_of(workflow, info, Known.load()))

        self._look(read)

    def remove(self) -> None:
        """Offer the workflow shown no longer; undo brings it back."""
        workflow, ledger = self._workflows.shown(), self._controller.ledger
        if workflow is None or not workflow.own:
            return
        text = f"{workflow.title} is not offered any more."
        rows = ledger.rows(ledger.ids(Group.WAITING)[:_ROWS])
        count = sum(row.job.family == workflow.id for row in rows)
        if count:
            jobs = "A waiting job needs it" if count == 1 else f"{count} waiting jobs need it"
            text += f" {jobs} and will fail without."
        self._store(lambda: None, workflow, text)

    def _store(
        self, make: Callable[[], Workflow | None], before: Workflow | None, text: str
    ) -> None:
        """Write what `make` returns in the place of `before`; either may be none."""
        folder = self._workflows.folder

        def write() -> object:
            from core.engines.comfy.workflows_files import remove, save

            after = make()
            if after is not None:
                save(folder, after)
            elif before is not None:
                remove(folder, before)
            return _Stored(after)

        def done(found: object) -> None:
            if not isinstance(found, _Stored):
                self._on_found(found)
                return
            after = found.workflow
            self._workflows.reload(after.id if after is not None else "")
            undo = ("Undo", lambda: self._store(lambda: before, after, "Undone."))
            self._notice.show_text(text, (undo,), key="workflow")

        self._look(write, done)


@dataclass(frozen=True, slots=True)
class _Stored:
    """What lies in the folder now; None where something was taken away."""

    workflow: Workflow | None


def _weights(path: Path) -> _Weights:
    from core.engines.local.singles import is_lora

    return _Weights(path, is_lora(path))


def _in_folder(
    folder: Path,
    recipes: frozenset[str],
    make: Callable[[Callable[[Any], Converted], str], _Ready],
) -> object:
    """Return what a folder is for: a clip made here, pictures to make clips of, or a model."""
    from core.batch.read import has_pictures

    if folder.suffix == SEQUENCE and own_recipe(folder) is not None:
        return _identify(folder, recipes, make)
    pictures = not (folder / "model_index.json").exists() and has_pictures(folder)
    return _Folder(folder, pictures)


def _in_words(draft: Draft) -> _Ready:
    from app.knob_words import offers_of

    return _Ready(draft, offers_of(draft))


def _identify(
    path: Path,
    recipes: frozenset[str],
    make: Callable[[Callable[[Any], Converted], str], _Ready],
) -> object:
    """Return what a file is for. Raises ProblemError when it is for nothing."""
    from core.engines.comfy import metadata
    from core.engines.comfy.convert import to_graph
    from core.engines.comfy.graphs import Graph

    suffix = path.suffix.lower()
    try:
        data = own_recipe(path)
        if data is not None:
            job = data.get("job", data)
            recipe, params = job.get("recipe"), job.get("params")
            if recipe in recipes and isinstance(params, dict):
                return _Again(recipe, {k: v for k, v in params.items() if not abroad(v)})
            graph: Graph | None = data.get("graph")
            if not isinstance(graph, dict):
                raise ProblemError(_no_use(path))
            return make(lambda info: to_graph(graph, info), str(job.get("title") or path.stem))
        if suffix in PICTURES and (suffix not in metadata.SUFFIXES or not metadata.embedded(path)):
            return _Plain(str(path), _no_use(path))
        return make(lambda info: metadata.open_workflow(path, info), path.stem)
    except OSError as error:
        words = error.strerror or str(error)
        raise invalid(
            "workflow", f"{path.name} cannot be read: {words}.", "Choose a file that is there."
        ) from None


def _from_text(text: str, info: Any) -> Converted:
    from core.engines.comfy.convert import to_graph
    from core.engines.comfy.graphs import loads

    return to_graph(loads(text), info)


def _no_use(path: Path) -> Problem:
    return Problem(
        Category.INVALID_PARAMS,
        f"{path.name} holds neither a recipe that Framedeck knows nor a workflow.",
        "Drop a clip or JSON file that Framedeck made, or what ComfyUI saved with its workflow.",
    )


def _no_server(server: str) -> ProblemError:
    if server:
        message = f"{server} has not said yet which nodes it has, without which no form is made."
        hint = "Start it, wait until it answers, and open the workflow again."
    else:
        message = "A workflow needs a ComfyUI server that knows its nodes, and none is known."
        hint = "Add a server, then open the workflow again."
    return ProblemError(Problem(Category.WORKER_UNAVAILABLE, message, hint, field="workflow"))
