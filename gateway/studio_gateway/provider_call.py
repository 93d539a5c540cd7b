"""What another provider may be asked, and with which arguments ★.

A client chooses neither addresses nor keys nor callbacks of LiteLLM: every operation lists the fields of a body that it
passes on, and any other field is refused.
"""

from dataclasses import dataclass
from typing import Any

from studio.v1.route_pb2 import ProviderRoute

from studio_gateway.call import Call
from studio_gateway.openai_errors import invalid_body


@dataclass(frozen=True)
class Operation:
    """A path: LiteLLM's function for it, and the fields of the body that it may be given."""

    function: str
    parameters: frozenset[str]
    # Whether the events of its streams are named, and end without [DONE].
    named_events: bool = False


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


OPERATIONS = {
    "/v1/chat/completions": Operation(
        "acompletion",
        _words(
            "messages stream stream_options temperature top_p n stop max_tokens max_completion_tokens presence_penalty"
            " frequency_penalty logit_bias logprobs top_logprobs user response_format seed tools tool_choice functions"
            " function_call parallel_tool_calls reasoning_effort verbosity modalities audio prediction thinking"
            " service_tier safety_identifier prompt_cache_key web_search_options"
        ),
    ),
    "/v1/completions": Operation(
        "atext_completion",
        _words(
            "prompt stream stream_options temperature top_p n stop max_tokens presence_penalty frequency_penalty logit_bias"
            " logprobs user seed suffix echo best_of"
        ),
    ),
    "/v1/embeddings": Operation("aembedding", _words("input dimensions encoding_format user")),
    "/v1/responses": Operation(
        "aresponses",
        _words(
            "input include instructions max_output_tokens prompt metadata parallel_tool_calls reasoning stream temperature text"
            " tool_choice tools top_p truncation user service_tier safety_identifier"
        ),
        named_events=True,
    ),
    "/v1/messages": Operation(
        "anthropic_messages",
        _words(
            "messages max_tokens metadata stop_sequences stream system temperature thinking tool_choice tools top_k top_p"
        ),
        named_events=True,
    ),
}


def arguments_of(
    operation: Operation, call: Call, provider: ProviderRoute, api_key: str, timeout_seconds: float
) -> dict[str, Any]:
    """What LiteLLM's function is called with. Raises ApiError."""
    given = call.values()
    given.pop("model", None)
    if unknown := sorted(given.keys() - operation.parameters):
        message = f"Unrecognised fields for a model of another provider: {', '.join(unknown)[:400]}."
        raise invalid_body(message, unknown[0])
    if call.adds_usage:
        given["stream_options"] = (given.get("stream_options") or {}) | {"include_usage": True}
    # The one retry that is safe has no place here: nothing tells whether the provider has begun.
    given |= {"model": provider.provider_model, "timeout": timeout_seconds, "max_retries": 0}
    if provider.api_base:
        given["api_base"] = provider.api_base
    if api_key:
        given["api_key"] = api_key
    return given
