"""What may be asked through LiteLLM, and with which arguments ★.

A client chooses neither addresses nor keys nor callbacks of LiteLLM: every operation lists the fields of a body that it
passes on. Any other field is refused for another provider; to an engine of the fleet it goes as it is, past LiteLLM.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from studio.v1.route_pb2 import ProviderRoute

from studio_gateway.call import Call
from studio_gateway.openai_errors import ApiError, invalid_body


@dataclass(frozen=True)
class Operation:
    """A path: LiteLLM's function for it, and the fields of the body that it may be given."""

    function: str
    parameters: frozenset[str]
    # The method of LiteLLM's router, where it has another name.
    router_method: str = ""
    # Whether an engine can be sent fields that LiteLLM does not know.
    takes_more: bool = True
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
        router_method="aanthropic_messages",
        takes_more=False,
        named_events=True,
    ),
}


def arguments_of(
    operation: Operation, call: Call, provider: ProviderRoute, api_key: str, timeout_seconds: float
) -> dict[str, Any]:
    """What LiteLLM's function is called with. Raises ApiError."""
    given, more = _known_and_more(operation, call)
    if more:
        raise _unknown("a model of another provider", more)
    # The one retry that is safe has no place here: nothing tells whether the provider has begun.
    given |= {"model": provider.provider_model, "timeout": timeout_seconds, "max_retries": 0}
    if provider.api_base:
        given["api_base"] = provider.api_base
    if api_key:
        given["api_key"] = api_key
    return given


def engine_arguments_of(
    operation: Operation, call: Call, model: str, about: Mapping[str, str], headers: Mapping[str, str], seconds: float
) -> dict[str, Any]:
    """What a method of LiteLLM's router is called with, for an engine of the fleet. Raises ApiError.

    ``about`` is told to the router and its callbacks, ``headers`` to the engine; ``seconds`` until the first byte.
    """
    given, more = _known_and_more(operation, call)
    if more and not operation.takes_more:
        raise _unknown("this path through LiteLLM", more)
    if more:
        given["extra_body"] = more
    return given | {
        "model": model,
        "timeout": seconds,
        "litellm_metadata": dict(about),
        "extra_headers": dict(headers),
    }


def _known_and_more(operation: Operation, call: Call) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that LiteLLM may be given, usage asked for among them; and all others."""
    given = call.values()
    given.pop("model", None)
    more = {name: given.pop(name) for name in sorted(given.keys() - operation.parameters)}
    if call.adds_usage:
        given["stream_options"] = (given.get("stream_options") or {}) | {"include_usage": True}
    return given, more


def _unknown(where: str, fields: Mapping[str, Any]) -> ApiError:
    names = list(fields)
    return invalid_body(f"Unrecognised fields for {where}: {', '.join(names)[:400]}.", names[0])
