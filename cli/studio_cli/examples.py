"""Examples below a command's help."""


def examples(*lines: str) -> str:
    """An epilog that shows ``lines`` as they are typed; the mark keeps them from being joined."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)
