; The installer of Framedeck for Windows 10 and 11 on 64 bits, for one user and without admin.
; `build_windows.py` runs makensis with:
;   BUNDLE   folder of the frozen program;  LIST  what is in it, as installed.txt
;   VERSION, VERSION4   "0.1.0" and "0.1.0.0"
;   SIZE_KB  what it takes on the disk
;   OUTPUT   the file to make;  ICON  the .ico
; Switches: /S silent, /D=FOLDER (last, no quotes), /DESKTOP with a desktop icon,
; /NOTYPES without "Open with"; of the uninstaller: /S, /REMOVEDATA.
; Exit codes: 0 done, 1 cancelled, 2 failed, 3 Framedeck is running.

Unicode true
Target amd64-unicode
ManifestSupportedOS all
ManifestDPIAware true
ManifestLongPathAware true
SetCompressor /SOLID lzma
RequestExecutionLevel user
Name "Framedeck"
OutFile "${OUTPUT}"
BrandingText "Framedeck ${VERSION}"
!define ENTRY "Software\Microsoft\Windows\CurrentVersion\Uninstall\Framedeck"
!define CLASSES "Software\Classes"
!define PROGID "Framedeck.File"
!define DATA "$LOCALAPPDATA\framedeck"
!define RUNNING 3
InstallDir "$LOCALAPPDATA\Programs\Framedeck"
InstallDirRegKey HKCU "${ENTRY}" "InstallLocation"
ShowInstDetails nevershow
ShowUninstDetails nevershow

VIProductVersion "${VERSION4}"
VIAddVersionKey "ProductName" "Framedeck"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "FileDescription" "Framedeck setup"
VIAddVersionKey "CompanyName" "Framedeck"
VIAddVersionKey "LegalCopyright" "GPL-3.0-or-later"

!include "MUI2.nsh"
!include "LogicLib.nsh"
!include "FileFunc.nsh"
!include "Sections.nsh"
!include "x64.nsh"
!include "WinVer.nsh"

!define MUI_ICON "${ICON}"
!define MUI_UNICON "${ICON}"
!define MUI_ABORTWARNING
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_COMPONENTS
!insertmacro MUI_PAGE_INSTFILES
!define MUI_FINISHPAGE_RUN "$INSTDIR\framedeck.exe"
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_COMPONENTS
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"

; --- used by both programs; UN is "" or "un."

!macro COMMON UN
  ; Whether $0 can be written; a program that runs, or a lock that is held, cannot.
  Function ${UN}IsHeld
    StrCpy $1 0
    ${If} ${FileExists} "$0"
      ClearErrors
      FileOpen $2 "$0" a
      ${If} ${Errors}
        StrCpy $1 1
      ${Else}
        FileClose $2
      ${EndIf}
    ${EndIf}
    ClearErrors
  FunctionEnd

  ; Goes on only when nothing of Framedeck runs; silent, it ends with code 3.
  Function ${UN}EndRunning
    again:
    StrCpy $0 "$INSTDIR\framedeck.exe"
    Call ${UN}IsHeld
    StrCpy $3 $1
    StrCpy $0 "$INSTDIR\framedeck-cli.exe"
    Call ${UN}IsHeld
    IntOp $3 $3 | $1
    StrCpy $0 "${DATA}\framedeck.lock"
    Call ${UN}IsHeld
    IntOp $3 $3 | $1
    ${If} $3 <> 0
      SetErrorLevel ${RUNNING}
      MessageBox MB_RETRYCANCEL|MB_ICONEXCLAMATION \
        "Framedeck is running. Close its window, then choose Retry." /SD IDCANCEL IDRETRY again
      SetErrorLevel ${RUNNING}
      Quit
    ${EndIf}
    SetErrorLevel 0
  FunctionEnd

  ; Takes away, below $R0, what installed.txt there names, and folders that are empty then.
  ; Nothing else: what somebody put there stays, and with it the folder.
  Function ${UN}RemoveListed
    ClearErrors
    FileOpen $R1 "$R0\installed.txt" r
    ${If} ${Errors}
      ClearErrors
      Return
    ${EndIf}
    FileReadWord $R1 $R2 ; the byte order mark
    next:
    ClearErrors
    FileReadUTF16LE $R1 $R2
    ${If} ${Errors}
      Goto done
    ${EndIf}
    trim:
    StrCpy $R3 $R2 1 -1
    ${If} $R3 == "$\n"
    ${OrIf} $R3 == "$\r"
      StrCpy $R2 $R2 -1
      Goto trim
    ${EndIf}
    StrCpy $R3 $R2 1
    ${If} $R2 == ""
    ${OrIf} $R3 == "\"
      Goto next
    ${EndIf}
    ; A list that was altered must not lead out of the folder.
    StrCpy $R4 0
    look:
    StrCpy $R3 $R2 2 $R4
    ${If} $R3 == ".."
      Goto next
    ${EndIf}
    StrCpy $R3 $R2 1 $R4
    ${If} $R3 == ":"
      Goto next
    ${EndIf}
    IntOp $R4 $R4 + 1
    ${If} $R3 != ""
      Goto look
    ${EndIf}
    StrCpy $R3 $R2 1 -1
    ${If} $R3 == "\"
      RMDir /r "$R0\$R2__pycache__"
      RMDir "$R0\$R2"
    ${Else}
      Delete "$R0\$R2"
    ${EndIf}
    Goto next
    done:
    FileClose $R1
    Delete "$R0\uninstall.exe"
    Delete "$R0\installed.txt"
    RMDir "$R0"
    ClearErrors
  FunctionEnd
!macroend
!insertmacro COMMON ""
!insertmacro COMMON "un."

; --- the installer

Section "Framedeck" SecProgram
  SectionIn RO
  Call EndRunning
  ; An older version goes first, wherever it is, so that no file of it stays.
  ReadRegStr $R0 HKCU "${ENTRY}" "InstallLocation"
  ${If} $R0 != ""
  ${AndIf} $R0 != $INSTDIR
    Call RemoveListed
  ${EndIf}
  StrCpy $R0 $INSTDIR
  Call RemoveListed
  SetOutPath "$INSTDIR"
  ClearErrors
  ; Backslashes: makensis for Windows takes a path apart at those alone, the others at both.
  File /r "${BUNDLE}\*"
  File "/oname=installed.txt" "${LIST}"
  WriteUninstaller "$INSTDIR\uninstall.exe"
  ${If} ${Errors}
    SetErrorLevel 2
    MessageBox MB_OK|MB_ICONSTOP "Framedeck could not be written to $INSTDIR. \
      Check that there is space and that the folder can be written, then start again." /SD IDOK
    Abort
  ${EndIf}
  CreateShortcut "$SMPROGRAMS\Framedeck.lnk" "$INSTDIR\framedeck.exe" "" "$INSTDIR\framedeck.exe" 0
  WriteRegStr HKCU "${ENTRY}" "DisplayName" "Framedeck"
  WriteRegStr HKCU "${ENTRY}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${ENTRY}" "DisplayIcon" "$INSTDIR\framedeck.exe,0"
  WriteRegStr HKCU "${ENTRY}" "Publisher" "Framedeck"
  WriteRegStr HKCU "${ENTRY}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${ENTRY}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${ENTRY}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${ENTRY}" "EstimatedSize" ${SIZE_KB}
  WriteRegDWORD HKCU "${ENTRY}" "NoModify" 1
  WriteRegDWORD HKCU "${ENTRY}" "NoRepair" 1
SectionEnd

Section /o "Icon on the desktop" SecDesktop
  CreateShortcut "$DESKTOP\Framedeck.lnk" "$INSTDIR\framedeck.exe" "" "$INSTDIR\framedeck.exe" 0
SectionEnd

; Offered under "Open with" for recipes and queues; the program that opens them stays the same.
Section "Open with Framedeck: recipes, queues" SecTypes
  WriteRegStr HKCU "${CLASSES}\${PROGID}" "" "Framedeck recipe or queue"
  WriteRegStr HKCU "${CLASSES}\${PROGID}\DefaultIcon" "" "$INSTDIR\framedeck.exe,0"
  WriteRegStr HKCU "${CLASSES}\${PROGID}\shell\open\command" "" '"$INSTDIR\framedeck.exe" "%1"'
  WriteRegStr HKCU "${CLASSES}\.json\OpenWithProgids" "${PROGID}" ""
  WriteRegStr HKCU "${CLASSES}\.zip\OpenWithProgids" "${PROGID}" ""
  WriteRegStr HKCU "${CLASSES}\Applications\framedeck.exe" "FriendlyAppName" "Framedeck"
  WriteRegStr HKCU "${CLASSES}\Applications\framedeck.exe\shell\open\command" "" \
    '"$INSTDIR\framedeck.exe" "%1"'
  WriteRegStr HKCU "${CLASSES}\Applications\framedeck.exe\SupportedTypes" ".json" ""
  WriteRegStr HKCU "${CLASSES}\Applications\framedeck.exe\SupportedTypes" ".zip" ""
  System::Call 'SHELL32::SHChangeNotify(i 0x8000000, i 0, p 0, p 0)'
SectionEnd

LangString DescProgram ${LANG_ENGLISH} "The program itself, in the Start menu."
LangString DescDesktop ${LANG_ENGLISH} "Starts Framedeck by a double click."
LangString DescTypes ${LANG_ENGLISH} "Adds Framedeck to Open with. What opens these files by a double click stays as it is."
!insertmacro MUI_FUNCTION_DESCRIPTION_BEGIN
  !insertmacro MUI_DESCRIPTION_TEXT ${SecProgram} $(DescProgram)
  !insertmacro MUI_DESCRIPTION_TEXT ${SecDesktop} $(DescDesktop)
  !insertmacro MUI_DESCRIPTION_TEXT ${SecTypes} $(DescTypes)
!insertmacro MUI_FUNCTION_DESCRIPTION_END

Function .onInit
  ${IfNot} ${RunningX64}
  ${OrIfNot} ${AtLeastWin10}
    SetErrorLevel 2
    MessageBox MB_OK|MB_ICONSTOP "Framedeck needs Windows 10 or 11 with 64 bits." /SD IDOK
    Quit
  ${EndIf}
  ${GetParameters} $0
  ClearErrors
  ${GetOptions} $0 "/DESKTOP" $1
  ${IfNot} ${Errors}
    !insertmacro SelectSection ${SecDesktop}
  ${EndIf}
  ClearErrors
  ${GetOptions} $0 "/NOTYPES" $1
  ${IfNot} ${Errors}
    !insertmacro UnselectSection ${SecTypes}
  ${EndIf}
  ClearErrors
  ; Silent, no page asks for the folder, so its state is clear now.
  ${If} ${Silent}
    Call EndRunning
  ${EndIf}
FunctionEnd

; --- the uninstaller

Function un.RemoveTypes
  DeleteRegKey HKCU "${CLASSES}\${PROGID}"
  DeleteRegKey HKCU "${CLASSES}\Applications\framedeck.exe"
  DeleteRegValue HKCU "${CLASSES}\.json\OpenWithProgids" "${PROGID}"
  DeleteRegValue HKCU "${CLASSES}\.zip\OpenWithProgids" "${PROGID}"
  DeleteRegKey /ifempty HKCU "${CLASSES}\.json\OpenWithProgids"
  DeleteRegKey /ifempty HKCU "${CLASSES}\.zip\OpenWithProgids"
  DeleteRegKey /ifempty HKCU "${CLASSES}\.json"
  DeleteRegKey /ifempty HKCU "${CLASSES}\.zip"
  ClearErrors
FunctionEnd

Section "un.Framedeck" UnProgram
  SectionIn RO
  Call un.EndRunning
  Call un.RemoveTypes
  Delete "$SMPROGRAMS\Framedeck.lnk"
  Delete "$DESKTOP\Framedeck.lnk"
  SetOutPath "$TEMP" ; a folder that is worked in cannot be removed
  StrCpy $R0 $INSTDIR
  Call un.RemoveListed
  ; The engine and newer versions are program, fetched by the program.
  RMDir /r "${DATA}\engine"
  RMDir /r "${DATA}\app"
  DeleteRegKey HKCU "${ENTRY}"
  System::Call 'SHELL32::SHChangeNotify(i 0x8000000, i 0, p 0, p 0)'
SectionEnd

Section /o "un.Settings, history, models and logs" UnData
  RMDir /r "${DATA}"
SectionEnd

LangString DescUnProgram ${LANG_ENGLISH} "The program, its engine and its entries in the menu."
LangString DescUnData ${LANG_ENGLISH} "All of ${DATA}. Your clips are never removed."
!insertmacro MUI_UNFUNCTION_DESCRIPTION_BEGIN
  !insertmacro MUI_DESCRIPTION_TEXT ${UnProgram} $(DescUnProgram)
  !insertmacro MUI_DESCRIPTION_TEXT ${UnData} $(DescUnData)
!insertmacro MUI_UNFUNCTION_DESCRIPTION_END

Function un.onInit
  ${GetParameters} $0
  ClearErrors
  ${GetOptions} $0 "/REMOVEDATA" $1
  ${IfNot} ${Errors}
    !insertmacro SelectSection ${UnData}
  ${EndIf}
  ClearErrors
  ${If} ${Silent}
    Call un.EndRunning
  ${EndIf}
FunctionEnd
