"""Completion scripts for bash, zsh and fish, written from plain descriptions of the help pages.

Pure functions from data to text; nothing here knows the commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_HEAD = """\
# Completion of `neuro` for {shell}; written by `python -m neurocli.cli.completions {shell}`.
"""


@dataclass(frozen=True)
class Choice:
    """Say what a value may be: fixed words, names of lists, files."""

    words: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    files: bool = False


@dataclass(frozen=True)
class Option:
    """Describe one option: spellings (short first), sentence, value (None for a switch)."""

    names: tuple[str, ...]
    text: str
    value: Choice | None
    is_repeatable: bool = False


@dataclass(frozen=True)
class Page:
    """Describe one help page.

    Args:
        path: Verbs that lead to it.
        text: Its first sentence.
        verbs: Verbs below it with their sentences.
        options: Its options.
        arguments: What each argument may be, and whether it repeats.
    """

    path: tuple[str, ...]
    text: str
    verbs: Mapping[str, str]
    options: tuple[Option, ...]
    arguments: tuple[tuple[Choice, bool], ...]


Lists = Mapping[str, Sequence[str]]

_BASH_BODY = r"""
_neuro() {
    local current=${COMP_WORDS[COMP_CWORD]} path= verbs= options= valued= option= word skip= place=0
    local words= files=
    [[ $current == = ]] && current=
    _neuro_page ""
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ $word == = ]]; then
            [[ -z $skip ]] && option=
            skip=1
        elif [[ -n $skip ]]; then
            skip=
        elif [[ $word == -* ]]; then
            [[ " $valued " == *" $word "* ]] && skip=1 option=$word
        elif [[ -n $verbs ]]; then
            path=${path:+$path }$word
            _neuro_page "$path"
        else
            place=$((place + 1))
        fi
    done
    if [[ -n $skip ]]; then
        [[ -n $option ]] && _neuro_value "$path $option"
    elif [[ $current == -* ]]; then
        words=$options
    elif [[ -n $verbs ]]; then
        words=$verbs
    else
        _neuro_argument "$path" "$place"
    fi
    COMPREPLY=($(compgen -W "$words" -- "$current"))
    if [[ -n $files ]]; then
        compopt -o filenames 2>/dev/null
        local IFS=$'\n'
        COMPREPLY+=($(compgen -f -- "$current"))
    fi
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _neuro neuro
"""


def bash(pages: Sequence[Page], lists: Lists) -> str:
    """Return the completion script for bash 4.0 and newer, without other packages."""
    lines = [_HEAD.format(shell="bash")]
    lines += [f"_neuro_list_{name}='{' '.join(words)}'" for name, words in lists.items()]
    # Bash splits words at "=", so `--opt=x` and `-s key=x` arrive as three; the body knows.
    lines += ["", "_neuro_page() {", "    verbs= options= valued=", '    case "$1" in']
    for page in pages:
        names = " ".join(name for option in page.options for name in option.names)
        valued = " ".join(name for option in page.options if option.value for name in option.names)
        lines.append(
            f"        '{' '.join(page.path)}') verbs='{' '.join(page.verbs)}' "
            f"options='{names}' valued='{valued}' ;;"
        )
    lines += ["    esac", "}", "", "_neuro_value() {", '    case "$1" in']
    for page in pages:
        for option in page.options:
            if option.value and _bash_choice(option.value):
                spelled = " | ".join(f"'{' '.join(page.path)} {name}'" for name in option.names)
                lines.append(f"        {spelled}) {_bash_choice(option.value)} ;;")
    lines += ["    esac", "}", "", "_neuro_argument() {", '    case "$1 $2" in']
    for page in pages:
        for place, (argument, repeats) in enumerate(page.arguments):
            if _bash_choice(argument):
                pattern = f"'{' '.join(page.path)} '{'*' if repeats else place}"
                lines.append(f"        {pattern}) {_bash_choice(argument)} ;;")
    return "\n".join([*lines, "    esac", "}"]) + "\n" + _BASH_BODY


def _bash_choice(choice: Choice) -> str:
    words = " ".join([*choice.words, *(f"$_neuro_list_{name}" for name in choice.lists)])
    parts = [f'words="{words}"'] if words else []
    return " ".join([*parts, "files=1"] if choice.files else parts)


def zsh(pages: Sequence[Page], lists: Lists) -> str:
    """Return the completion script for zsh; it goes into a folder of `fpath` as `_neuro`."""
    lines = ["#compdef neuro", _HEAD.format(shell="zsh")]
    for name, words in lists.items():
        lines += [f"_neuro_list_{name}() {{", *_zsh_words(name, words), "}", ""]
    for page in pages:
        lines += [*_zsh_page(page), ""]
    lines += ['if [[ $funcstack[1] == _neuro ]]; then _neuro "$@"; else compdef _neuro neuro; fi']
    return "\n".join(lines) + "\n"


def _zsh_words(name: str, words: Sequence[str]) -> list[str]:
    # A key is not the whole word: its value follows without a blank.
    suffix = "-S '' " if name == "keys" else ""
    return [f"    compadd {suffix}-- {' '.join(words)}"]


def _zsh_page(page: Page) -> list[str]:
    specs = [_zsh_option(option) for option in page.options]
    for place, (argument, repeats) in enumerate(page.arguments, start=1):
        specs.append(f"'{'*' if repeats else place}:value:{_zsh_action(argument)}'")
    name = "_".join(("_neuro", *page.path)).replace("-", "_")
    body = " \\\n        ".join(["_arguments -s", *specs])
    if not page.verbs:
        return [f"{name}() {{", f"    {body}", "}"]
    body = " \\\n        ".join(["_arguments -C", *specs, "'1:command:->verb'", "'*::arg:->rest'"])
    described = [f"            {_quoted(f'{verb}:{text}')}" for verb, text in page.verbs.items()]
    arms = [
        f"                {verb}) {f'{name}_{verb}'.replace('-', '_')} ;;" for verb in page.verbs
    ]
    return [
        f"{name}() {{",
        "    local context state line",
        f"    {body}",
        "    case $state in",
        "        verb)",
        "            local -a verbs=(",
        *(f"    {line}" for line in described),
        "            )",
        "            _describe command verbs ;;",
        "        rest)",
        "            case $line[1] in",
        *arms,
        "            esac ;;",
        "    esac",
        "}",
    ]


def _zsh_option(option: Option) -> str:
    text = option.text
    for special in "[]:":
        text = text.replace(special, f"\\{special}")
    value = f":value:{_zsh_action(option.value)}" if option.value else ""
    names = option.names[0] if len(option.names) == 1 else f"{{{','.join(option.names)}}}"
    before = "*" if option.is_repeatable else f"({' '.join(option.names)})"
    if len(option.names) == 1:
        return _quoted(f"{before if option.is_repeatable else ''}{names}[{text}]{value}")
    return f"{_quoted(before)}{names}{_quoted(f'[{text}]{value}')}"


def _zsh_action(choice: Choice) -> str:
    if choice.lists and choice.files:
        return f"{{ {'; '.join(f'_neuro_list_{name}' for name in choice.lists)}; _files }}"
    if choice.lists:
        return f"_neuro_list_{choice.lists[0]}"
    if choice.words and choice.files:
        return f"{{ compadd {' '.join(choice.words)}; _files }}"
    if choice.words:
        return f"({' '.join(choice.words)})"
    return "_files" if choice.files else " "


def fish(pages: Sequence[Page], lists: Lists) -> str:
    """Return the completion script for fish 3."""
    lines = [_HEAD.format(shell="fish"), "complete -c neuro -f"]
    lines += [f"set -g _neuro_list_{name} {' '.join(words)}" for name, words in lists.items()]
    for page in pages:
        when = _fish_condition(page)
        lines += [
            f"complete -c neuro -n {when} -a {verb} -d {_fish_quoted(text)}"
            for verb, text in page.verbs.items()
        ]
        for option in page.options:
            lines.append(_fish_option(when, option))
        lines += _fish_arguments(page, when)
    return "\n".join(lines) + "\n"


def _fish_condition(page: Page) -> str:
    if not page.path:
        return "__fish_use_subcommand"
    parts = [f"__fish_seen_subcommand_from {verb}" for verb in page.path]
    if page.verbs:
        parts.append(f"not __fish_seen_subcommand_from {' '.join(page.verbs)}")
    return f"'{'; and '.join(parts)}'"


def _fish_option(when: str, option: Option) -> str:
    names = " ".join(
        f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
    )
    if option.value is None:
        tail = ""
    else:
        words = _fish_choice(option.value)
        tail = f" {'-r -F' if option.value.files else '-x'}" + (f' -a "{words}"' if words else "")
    return f"complete -c neuro -n {when} {names}{tail} -d {_fish_quoted(option.text)}"


def _fish_arguments(page: Page, when: str) -> Iterable[str]:
    for argument, _ in page.arguments:
        words = _fish_choice(argument)
        if words or argument.files:
            offered = f' -a "{words}"' if words else ""
            yield f"complete -c neuro -n {when}{' -F' if argument.files else ''}{offered}"


def _fish_choice(choice: Choice) -> str:
    return " ".join([*choice.words, *(f"$_neuro_list_{name}" for name in choice.lists)])


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
