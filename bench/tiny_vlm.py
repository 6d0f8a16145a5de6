"""Vision-language models of some 150,000 random weights: they know nothing, and are loaded and asked like real ones.

They show that the plumbing holds (folder, processor, batches, schema, deadlines), never how good an answer is.
"""

import warnings
from pathlib import Path
from typing import Any

__all__ = ["make_idefics3", "make_llava"]

TEMPLATE = (
    "{% for message in messages %}[{{ message.role }}] {% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content %}{% if part.type == 'image' %}<image>{% else %}{{ part.text }}"
    "{% endif %}{% endfor %}{% endif %}<|end|>{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}"
)
PICTURE = 56
PATCH = 14
CONTEXT = 32_768


def _tokenizer(*special: str) -> Any:
    """Of single bytes: it can spell whatever there is."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={one: number for number, one in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=list(special),
    )
    made.chat_template = TEMPLATE
    return made


def make_llava(folder: Path, seed: int = 0) -> Path:
    """CLIP's eyes and Qwen2's words in LLaVA's form, saved as safetensors; returns `folder`."""
    import torch  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        Qwen2Config,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil  # noqa: PLC0415

    tokenizer = _tokenizer("<image>")
    eyes = CLIPImageProcessorPil(size={"shortest_edge": PICTURE}, crop_size={"height": PICTURE, "width": PICTURE})
    processor = LlavaProcessor(
        image_processor=eyes,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    torch.manual_seed(seed)
    config = LlavaConfig(
        text_config=Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
        ),
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=PICTURE,
            patch_size=PATCH,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    return _save(LlavaForConditionalGeneration(config), processor, folder)


def make_idefics3(folder: Path, seed: int = 0) -> Path:
    """SigLIP's eyes and Llama's words in Idefics3's form, saved as safetensors; returns `folder`."""
    import torch  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3Processor,
        LlamaConfig,
    )
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil  # noqa: PLC0415

    tokenizer = _tokenizer("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
    eyes = Idefics3ImageProcessorPil(
        size={"longest_edge": PICTURE}, max_image_size={"longest_edge": PICTURE}, do_image_splitting=False
    )
    processor = Idefics3Processor(image_processor=eyes, tokenizer=tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    torch.manual_seed(seed)
    config = Idefics3Config(
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=CONTEXT,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        ),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": PICTURE,
            "patch_size": PATCH,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    return _save(Idefics3ForConditionalGeneration(config), processor, folder)


def _save(model: Any, processor: Any, folder: Path) -> Path:
    tokenizer = processor.tokenizer
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.eval().save_pretrained(folder)
        processor.save_pretrained(folder)
    return folder
