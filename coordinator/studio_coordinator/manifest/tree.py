"""YAML text to plain nodes that know their line.

Built from the parser's events without recursion, so that no text, however deep or full of aliases, costs more than its limits.
JSON is read the same way. Nothing is guessed here: a scalar keeps its text, and who knows the wanted type reads it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

MAX_CHARACTERS = 1024 * 1024
MAX_DEPTH = 32
# Of one manifest, with everything that an alias stands for counted each time.
MAX_NODES = 100_000
# Styles of a scalar without quotes; the two parsers differ.
PLAIN = (None, "")
YAML_TAG = "tag:yaml.org,2002:"
KNOWN_TAGS = {None, "!", *(YAML_TAG + name for name in ("str", "int", "float", "bool", "null", "map", "seq"))}

# Two escapes that stand for one character, with the complete escapes of backslashes before them.
SURROGATE_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB]\w{2})\\u([dD][c-fC-F]\w{2})", re.ASCII)

# Plain characters that JSON allows and that YAML forbids or takes for line breaks.
NOT_PRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

# The C parser reads a mebibyte in well under a second, the Python one takes several.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Scalar:
    """A text; ``quoted`` says that it is meant as one, whatever it looks like."""

    text: str
    quoted: bool
    line: int
    size: int = 1


@dataclass
class Listing:
    """A list of nodes."""

    line: int
    items: list["Node"] = field(default_factory=list)
    size: int = 1


@dataclass
class Entry:
    """A key of a mapping with its value."""

    key: str
    line: int
    value: "Node"


@dataclass
class Mapping:
    """Entries in their order; a key may come more than once."""

    line: int
    entries: list[Entry] = field(default_factory=list)
    size: int = 1


Node = Scalar | Listing | Mapping


class TreeError(Exception):
    """The text cannot be read any further."""

    def __init__(self, message: str, line: int, document: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.document = document


def read_documents(text: str) -> Iterator[tuple[int, Node]]:
    """The documents of ``text`` one after the other, with their numbers from 1; empty ones are left out. Raises TreeError."""
    if len(text) > MAX_CHARACTERS:
        raise TreeError(
            f"the manifest has {len(text):,} characters, more than the {MAX_CHARACTERS:,} that are read", 1, 1
        )
    if text.lstrip().startswith(("{", "[")):
        text = _json_as_yaml(text)
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=LOADER):
            root = builder.take(event)
            if root is not None and not (isinstance(root, Scalar) and root.text in ("", "null", "~")):
                yield builder.document, root
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise TreeError(_sentence(error), mark.line + 1 if mark else 0, max(builder.document, 1)) from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1 if isinstance(error.position, int) else 0
        raise TreeError(
            f"the text holds a character that YAML does not allow: {error.reason}", line, max(builder.document, 1)
        ) from error


class _Builder:
    """Puts events together; the innermost open container is on top of ``_open``."""

    def __init__(self) -> None:
        self.document = 0
        self._open: list[Listing | Mapping] = []
        self._keys: list[tuple[str, int] | None] = []
        self._anchors: dict[str, Node] = {}
        self._named: list[str | None] = []
        self._root: Node | None = None
        # Values of the documents that are complete, and values seen so far.
        self._written_out = 0
        self._seen = 0

    def take(self, event: yaml.Event) -> Node | None:
        """Use the next event; returns the root when it ends a document."""
        # Marks are left out only of events that are made by hand.
        line = event.start_mark.line + 1 if event.start_mark else 0
        match event:
            case yaml.DocumentStartEvent():
                self.document += 1
                self._anchors.clear()
                self._root = None
            case yaml.ScalarEvent():
                self._refuse_tag(event.tag, line)
                # A tag on a plain scalar says that it is a text, as quotes do.
                quoted = event.style not in PLAIN or event.tag in ("!", YAML_TAG + "str")
                self._add(Scalar(event.value, quoted, line), event.anchor, line)
            case yaml.AliasEvent():
                if event.anchor not in self._anchors:
                    raise self._error(f"the alias *{event.anchor} stands for nothing that is complete before it", line)
                self._add(self._anchors[event.anchor], None, line)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._begin(event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._keys.pop()
                self._add_complete(self._open.pop(), self._named.pop())
            case yaml.DocumentEndEvent():
                self._written_out += self._root.size if self._root is not None else 0
                self._refuse_too_many(self._written_out, line)
                return self._root
        return None

    def _begin(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent, line: int) -> None:
        self._refuse_tag(event.tag, line)
        if len(self._open) >= MAX_DEPTH:
            raise self._error(f"nested more than {MAX_DEPTH} deep", line)
        if self._open and isinstance(self._open[-1], Mapping) and self._keys[-1] is None:
            raise self._error("a key must be a plain text", line)
        self._open.append(Mapping(line) if isinstance(event, yaml.MappingStartEvent) else Listing(line))
        self._keys.append(None)
        self._named.append(event.anchor)

    def _add_complete(self, node: Listing | Mapping, anchor: str | None) -> None:
        node.size += (
            sum(entry.value.size for entry in node.entries)
            if isinstance(node, Mapping)
            else sum(i.size for i in node.items)
        )
        self._add(node, anchor, node.line)

    def _add(self, node: Node, anchor: str | None, line: int) -> None:
        self._seen += 1
        self._refuse_too_many(max(self._seen, node.size), line)
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self._root = node
            return
        parent = self._open[-1]
        if isinstance(parent, Listing):
            parent.items.append(node)
        elif self._keys[-1] is not None:
            key, key_line = self._keys[-1]
            parent.entries.append(Entry(key, key_line, node))
            self._keys[-1] = None
        elif isinstance(node, Scalar):
            self._keys[-1] = (node.text, line)
        else:
            raise self._error("a key must be a plain text", line)

    def _refuse_too_many(self, values: int, line: int) -> None:
        if values > MAX_NODES:
            raise self._error(f"the manifest has more than {MAX_NODES:,} values once its aliases are written out", line)

    def _refuse_tag(self, tag: str | None, line: int) -> None:
        if tag not in KNOWN_TAGS:
            raise self._error(f"the tag {tag} is not allowed", line)

    def _error(self, message: str, line: int) -> TreeError:
        return TreeError(message, line, max(self.document, 1))


def _json_as_yaml(text: str) -> str:
    """Where JSON is not YAML: its indentation, characters that it allows, and two escapes for one beyond U+FFFF."""

    def joined(found: re.Match[str]) -> str:
        pair = bytes.fromhex(found[2] + found[3])
        return found[1] + pair.decode("utf-16-be")

    # Strings of JSON hold no plain tab, so that all of them are indentation; of the other characters all are in strings.
    escaped = NOT_PRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text.replace("\t", " "))
    return SURROGATE_PAIR.sub(joined, escaped)


def _sentence(error: yaml.MarkedYAMLError) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    return "not YAML: " + ", ".join(parts)
