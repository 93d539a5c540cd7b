"""Bytes, element widths and the two roundings that the engines use."""

GIB = 1 << 30
MIB = 1 << 20

# Bytes of one element, by the names that config.json, safetensors headers and engine flags use.
ELEMENT_BYTES: dict[str, float] = {
    "float64": 8, "f64": 8, "int64": 8, "i64": 8, "u64": 8,
    "float32": 4, "float": 4, "f32": 4, "int32": 4, "i32": 4, "u32": 4,
    "bfloat16": 2, "bf16": 2, "float16": 2, "half": 2, "f16": 2, "i16": 2, "u16": 2,
    "float8_e4m3fn": 1, "f8_e4m3": 1, "f8_e5m2": 1, "f8_e8m0": 1, "int8": 1, "i8": 1, "u8": 1, "bool": 1,
    "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "fp8_inc": 1,
    "f4": 0.5,
}  # fmt: skip


def element_bytes(name: str) -> float | None:
    """Bytes of one element of the type called `name`; None when the name is not known."""
    return ELEMENT_BYTES.get(name.lower().removeprefix("torch."))


def ceil_div(numerator: int, denominator: int) -> int:
    """The quotient, rounded up."""
    return -(-numerator // denominator)


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `value`."""
    return ceil_div(value, multiple) * multiple
