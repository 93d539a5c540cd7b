"""Reading what is known of a model, without loading it. The effects in front of `plan.memory`.

=================== =================================================================================================
directory           a local directory: config.json with safetensors headers or their index, or a GGUF file
safetensors_header  the header of a safetensors file: names, types, shapes and sizes of its tensors
gguf_header         the same of a GGUF file, with its metadata as a config.json would say it
description         the same of a directory on a host, as its agent sends it
hub                 the Hugging Face hub: headers by HTTP range, cached by revision
adapter             a LoRA adapter: its rank and its bytes
errors              refusals
=================== =================================================================================================
"""
