"""Models of a person's own, folders and single files: added, forgotten, remembered."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QFileDialog

from app.controller import Controller
from app.window import MainWindow
from core.engines.local.caches import GROUP
from core.engines.local.families import cached_recipes, own_recipes
from core.errors import Problem, ProblemError


class OwnModels(QObject):
    """Keeps the recipes of added folders in step with the settings."""

    def __init__(
        self, controller: Controller, window: MainWindow, problems: Iterable[Problem] = ()
    ) -> None:
        """Connect the menu, and tell `problems` of folders that were added earlier."""
        super().__init__(window)
        self._controller = controller
        self._window = window
        menus = window.menus
        menus.add_model.triggered.connect(self._choose)
        menus.add_model_file.triggered.connect(self._choose_file)
        menus.forget_model.triggered.connect(self.forget)
        menus.cached_models.setChecked(window.settings.cached_models)
        menus.cached_models.toggled.connect(self._on_cached)
        window.panels.compose.recipe_chosen.connect(self._on_recipe)
        self._on_recipe(window.panels.compose.recipe_id())
        for problem in problems:
            window.panels.notice.show_problem(problem, key=f"model {problem.details}")

    def _choose(self) -> None:
        path = QFileDialog.getExistingDirectory(self._window, "Add model folder", str(Path.home()))
        if path:
            self._controller.guard(lambda: self.add(Path(path)))

    def _choose_file(self) -> None:
        kinds = "Models in a single file (*.safetensors)"
        path, _ = QFileDialog.getOpenFileName(
            self._window, "Add model file", str(Path.home()), kinds
        )
        if path:
            self._controller.guard(lambda: self.add(Path(path)))

    def add(self, folder: Path) -> None:
        """Offer the model in `folder`, or in a single file, from now on, and show its form.

        Raises:
            ProblemError: It is no model that can be run; the problem says why.
        """
        found, problems = own_recipes([folder])
        if problems:
            raise ProblemError(problems[0])
        recipe = found[0]
        self._controller.recipes.update({one.id: one for one in found})
        kept = [item for item in self._window.settings.model_folders if item != recipe.model]
        self._keep([*kept, recipe.model])
        self._show(recipe.id)

    def forget(self) -> None:
        """Offer the model shown in the form no longer. Its folder stays as it is."""
        recipe = self._controller.recipes.get(self._window.panels.compose.recipe_id())
        if recipe is None or recipe.model not in self._window.settings.model_folders:
            return
        for one in [one for one in self._controller.recipes.values() if one.model == recipe.model]:
            del self._controller.recipes[one.id]
        self._keep([i for i in self._window.settings.model_folders if i != recipe.model])
        self._show("")
        self._window.panels.notice.show_text(
            f"{recipe.title} is not offered any more. Its files were left alone.",
            (
                (
                    "Undo",
                    lambda: self._controller.guard(lambda: self.add(Path(recipe.model))),
                ),
            ),
            key="model",
        )

    def look_into_cache(self) -> None:
        """Offer what lies in the Hugging Face cache too, once it was looked through."""
        if not self._window.settings.cached_models:
            return

        def look() -> Iterator[object]:
            yield cached_recipes(os.environ)

        def offer(found: object) -> None:
            assert isinstance(found, list)
            known = self._controller.recipes
            new = {one.id: one for one in found if one.id not in known}
            if new and self._window.settings.cached_models:
                known.update(new)
                self._show("")

        self._controller.run_aside(look, "cache", offer)

    def _on_cached(self, wanted: bool) -> None:
        if wanted == self._window.settings.cached_models:
            return
        self._window.settings = replace(self._window.settings, cached_models=wanted)
        self._window.remember()
        if wanted:
            self.look_into_cache()
            return
        known = self._controller.recipes
        for recipe in [one for one in known.values() if one.group == GROUP]:
            del known[recipe.id]
        self._show("")

    def _keep(self, folders: list[str]) -> None:
        self._window.settings = replace(self._window.settings, model_folders=folders)
        self._window.remember()

    def _show(self, recipe_id: str) -> None:
        recipes = list(self._controller.recipes.values())
        self._window.panels.compose.set_recipes(recipes, recipe_id)

    def _on_recipe(self, recipe_id: str) -> None:
        recipe = self._controller.recipes.get(recipe_id)
        own = recipe is not None and recipe.model in self._window.settings.model_folders
        self._window.menus.forget_model.setEnabled(own)
