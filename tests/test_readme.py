"""What the documents say exists: commands and their options, links, headings, files and functions.

Nothing is run: command lines are parsed by the command line's own parser alone.
"""

import ast
import inspect
import re
import shlex
from pathlib import Path
from urllib.parse import unquote

import pytest
import typer
from partsig.cli import app

import partsig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
TEXT = "\n\n".join(page.read_text(encoding="utf-8") for page in PAGES)
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
DOCUMENTS = [*PAGES, CONTRIBUTING]
EACH = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
COMMAND = typer.main.get_command(app)


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def lines_of_shell(text):
    """Return the lines of the shell blocks, those that go on with a backslash as one."""
    joined = "".join(blocks(text, "sh")).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip()]


def commands(text):
    """Return the words after ``partsig`` of every such line, and of every such passage in prose.

    In prose, brackets are round what may be left out.
    """
    lines = lines_of_shell(text)
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    lines += [re.sub(r"[][]", "", found) for found in re.findall(r"`(partsig [^`]+)`", prose)]
    found = [shlex.split(line, comments=True) for line in lines]
    ours = [words[1:] for words in found if words[0] == "partsig"]
    return [words for words in ours if words[0] != "VERB" and not words[0].startswith("-")]


def parse(words):
    """Parse a command line as ``partsig`` does; return the options that it gives."""
    with COMMAND.make_context("partsig", list(words)) as context:
        verb, command, rest = COMMAND.resolve_command(context, list(words))
        with command.make_context(verb, rest, parent=context) as inner:
            sources = {name: inner.get_parameter_source(name).name for name in inner.params}
            return {name for name, source in sources.items() if source == "COMMANDLINE"}


@pytest.mark.parametrize("words", commands(TEXT), ids=" ".join)
def test_a_command_of_the_pages_is_understood(words):
    assert words[0] in COMMAND.commands
    if words[1:] == []:  # named alone, in prose
        return
    given = parse(words)
    assert len(given) >= len({word for word in words if word.startswith("--")})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stages night.edf", "No such command 'stages'"),
        ("pretrain --sed 1", "No such option: --sed"),
        ("pretrain --seed one", "valid integer"),
        ("evaluate --run", "Option '--run' requires an argument"),
        ("evaluate runs/a", "unexpected extra argument"),
    ],
)
def test_a_command_that_does_not_exist_would_be_found(line, message):
    with pytest.raises(Exception, match=message):
        parse(shlex.split(line))


def test_the_readme_is_one_screen():
    assert len(README.split()) <= 700
    assert README.count("![") == 1


def test_the_pages_commands_exist():
    """Enough of them, every verb among them, and those of make."""
    verbs = [words[0] for words in commands(TEXT)]
    assert len(verbs) >= 30
    assert set(verbs) == set(COMMAND.commands) >= set(partsig.VERBS)
    lines = lines_of_shell(TEXT) + lines_of_shell(CONTRIBUTING.read_text(encoding="utf-8"))
    targets = {line.split()[1] for line in lines if line.startswith("make ")}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets == {"demo", "lint", "test", "test-all"}
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_pages_calls_fit_the_functions():
    calls = []
    for block in blocks(TEXT, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert ast.unparse(node.func.value) == "partsig", ast.unparse(node)
                names = [keyword.arg for keyword in node.keywords]
                function = getattr(partsig, node.func.attr)
                inspect.signature(function).bind(*node.args, **dict.fromkeys(names))
                calls.append(node.func.attr)
    assert {"preprocess", "pretrain", "finetune", "evaluate", "stage"} <= set(calls)


def anchors(text):
    """Return the anchors of a document's headings, as they are made where it is shown."""
    found, seen = set(), {}
    for title in re.findall(r"^#+ +(.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
        seen[slug] = seen.get(slug, -1) + 1
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
    return found


def leads_somewhere(target, path, root):
    """Tell whether a link of a document leads to a file below ``root``, and to a heading there."""
    file, _, anchor = unquote(target).partition("#")
    place = (path.parent / file).resolve() if file else path
    if not place.exists() or not place.is_relative_to(root.resolve()):
        return False
    return not anchor or anchor in anchors(place.read_text(encoding="utf-8"))


def broken(path, root=ROOT):
    """Return the links of a document, those to other sites apart, that lead nowhere."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)[^)]*\)", text)
    inner = [target for target in targets if not re.match(r"[a-z][a-z+.-]*:", target)]
    return [target for target in inner if not leads_somewhere(target, path, root)]


@EACH
def test_links_lead_somewhere(path):
    assert broken(path) == []


def test_a_link_that_leads_nowhere_would_be_found(tmp_path):
    (tmp_path / "b.md").write_text("# One, *two*: `three`\n\n## Again\n\n## Again\n")
    good = ("b.md", "b.md#one-two-three", "b.md#again-1", "#here", "https://example.org/x")
    bad = ("c.md", "b.md#two", "b.md#again-2", "#there", "..")
    links = " ".join(f"[x]({target})" for target in (*good, *bad))
    (tmp_path / "a.md").write_text(f"# Here\n\n{links}\n\n```sh\n# There\n```\n")
    assert broken(tmp_path / "a.md", tmp_path) == list(bad)


@EACH
def test_files_that_are_named_exist(path):
    """In code spans: what lies below a folder of the repository."""
    named = re.findall(
        r"`((?:benchmarks|tests|partsig|configs|notebooks|cli)/[\w./-]*)`",
        path.read_text(encoding="utf-8"),
    )
    named = [name for name in named if not re.search(r"[A-Z]{4}", Path(name).stem)]  # NAME.py
    assert [name for name in named if not (ROOT / name).exists()] == []
