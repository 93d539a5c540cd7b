"""The demo engine's adapters over real HTTP, as vLLM's routes have them."""

from pathlib import Path

import aiohttp
import openai
from fakes.demo_process import DemoProcess, demo_engine

LOAD, UNLOAD = "/v1/load_lora_adapter", "/v1/unload_lora_adapter"


async def post(engine: DemoProcess, path: str, **body: object) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.post(engine.url + path, json=body) as answer:
        return answer.status, await answer.text()


async def test_an_adapter_is_a_model_from_loading_to_unloading(tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text("{}")
    async with (
        demo_engine("--enable-lora", "--lora-modules", "law") as engine,
        openai.AsyncOpenAI(base_url=f"{engine.url}/v1", api_key="none", max_retries=0) as client,
    ):
        assert (await post(engine, LOAD, lora_name="sql", lora_path=str(tmp_path)))[0] == 200
        listed = {model.id: model.model_dump() for model in (await client.models.list()).data}
        assert list(listed) == ["demo", "alias", "law", "sql"]
        assert (listed["sql"]["parent"], listed["sql"]["root"], listed["demo"]["parent"]) == (
            "demo",
            str(tmp_path),
            None,
        )
        answer = await client.completions.create(model="sql", prompt="hello", max_tokens=3)
        assert answer.model == "sql"
        assert (await post(engine, UNLOAD, lora_name="sql"))[0] == 200
        assert (await post(engine, "/v1/completions", model="sql", prompt="hello"))[0] == 404


async def test_what_it_does_not_take(tmp_path: Path):
    (tmp_path / "adapter_config.json").write_text("{}")
    here = str(tmp_path)
    async with demo_engine("--enable-lora") as engine:
        assert (await post(engine, LOAD, lora_name="demo", lora_path=here))[0] == 400
        assert (await post(engine, LOAD, lora_name="sql", lora_path=f"{here}/none"))[0] == 404
        assert (await post(engine, LOAD, lora_name="", lora_path=here))[0] == 400
        assert (await post(engine, UNLOAD, lora_name="demo"))[0] == 404


async def test_the_routes_are_there_only_where_it_was_told_to_take_adapters():
    async with demo_engine() as engine:
        assert (await post(engine, LOAD, lora_name="sql", lora_path="/none"))[0] == 404
        assert "No adapter" not in (await post(engine, LOAD, lora_name="sql", lora_path="/none"))[1]
