"""The marks that generators leave in their files, as a table: one `Rule` each. What matches is in `matching`.

A rule asks for the structure that the tool writes, never for a word alone: files *about* a generator do not
fire. The first rule that fits a text wins, so the special ones stand before the general ones. A new
generator is a line here, with a file in ``tests/provenance/generators.py``.
"""

from __future__ import annotations

from typing import NamedTuple

from bladescan.base.provenance_record import Says

A1111_TEXTS = ("png-text:parameters", "exif:UserComment", "comment")
"""AUTOMATIC1111 modules/images.py: a text chunk in PNG, EXIF UserComment in others, the comment in GIF."""

_A1111 = r"(?m)^Steps: \d+, (?=[^\n]{0,4000}\bSampler: \w)(?=[^\n]{0,4000}\bSeed: \d)"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_MODEL_NODE = (
    r"(?<!Re)Sampler|\bVAEDecode|OpenAI(Dalle|GPTImage)|Flux\w*ImageNode|IdeogramV\d|Recraft\w+To|GeminiImage"
    r"|Seedream|GrokImage|StabilityStableImage"
)
"""Nodes of a graph that make pixels with a model; without one, ComfyUI was used to edit."""


class Rule(NamedTuple):
    """How one tool marks its files.

    Attributes:
        tool: its name, for a person.
        fields: where the mark stands, any of them.
        text: pattern to be found in the text.
        json: dotted paths and patterns; the text is an object, and each path leads to a value that has its
            pattern. ``*`` is any key or index. Objects and lists have no text.
        after: what stands before the object.
        also: other fields and the patterns to be found in one of their texts.
        says: what follows.
        prompt: the field that holds the prompt, if it is not the mark's own.
    """

    tool: str
    fields: tuple[str, ...]
    text: str = ""
    json: tuple[tuple[str, str], ...] = ()
    after: str = ""
    also: tuple[tuple[str, str], ...] = ()
    says: Says = "ai-generated"
    prompt: str = ""


RULES: tuple[Rule, ...] = (
    # --- "parameters": a prompt, then a line "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: ..."
    # Fooocus modules/meta_parser.py, private_logger.py: fooocus_scheme beside parameters, in both schemes.
    Rule("Fooocus", ("png-text:parameters",), also=(("png-text:fooocus_scheme", r"\A(fooocus|a1111)\Z"),)),
    Rule("Fooocus", ("exif:UserComment",), also=(("exif:Software", r"\AFooocus v\d"),)),
    Rule("Fooocus", A1111_TEXTS, json=(("base_model", r"."), ("version", r"\AFooocus v\d"))),
    # RuinedFooocus modules/imagesaver: the same place, another object.
    Rule("RuinedFooocus", A1111_TEXTS, json=(("software", r"\ARuinedFooocus\Z"),)),
    # SwarmUI src/Text2Image/T2IParamInput.cs (ToJSON): an object sui_image_params.
    Rule("SwarmUI", A1111_TEXTS, json=(("sui_image_params.model", r"."), ("sui_image_params.seed", r"\d"))),
    # A1111 modules/processing.py writes "Mask blur" for inpainting: part of the picture is another's.
    Rule(
        "Stable Diffusion web UI", A1111_TEXTS, _A1111 + r"(?=[^\n]{0,4000}\bMask blur: \d)", says="ai-edited"
    ),
    # Forge modules_forge/forge_version.py: "Version: f2.0.1v1.10.1".
    Rule("Stable Diffusion WebUI Forge", A1111_TEXTS, _A1111 + r"(?=[^\n]{0,8000}\bVersion: f\d)"),
    # SD.Next modules/processing_info.py: "App: SD.Next".
    Rule("SD.Next", A1111_TEXTS, _A1111 + r"(?=[^\n]{0,8000}\bApp: SD\.Next)"),
    # Civitai's generator: the A1111 line with its list of resources.
    Rule("Civitai", A1111_TEXTS, _A1111 + r"(?=[^\n]{0,8000}\bCivitai (resources|metadata): [\[{])"),
    # AUTOMATIC1111 modules/processing.py (create_infotext), and the many that write the same line.
    Rule("Stable Diffusion web UI", A1111_TEXTS, _A1111),
    # --- ComfyUI nodes.py (SaveImage): PNG texts prompt (the graph as run) and workflow (as drawn).
    Rule("ComfyUI", ("png-text:prompt",), json=(("*.class_type", _MODEL_NODE), ("*.inputs", ""))),
    Rule(
        "ComfyUI",
        ("png-text:workflow",),
        json=(("nodes.*.type", _MODEL_NODE), ("links", ""), ("last_node_id", r"\d")),
    ),
    # ComfyUI comfy_extras/nodes_images.py (SaveAnimatedWEBP): EXIF Model "prompt:{...}".
    Rule(
        "ComfyUI",
        ("exif:Model", "exif:Make", "exif:ImageDescription"),
        json=(("*.class_type", _MODEL_NODE), ("*.inputs", "")),
        after="prompt:",
    ),
    # --- InvokeAI 3 and later, invokeai/app/services/image_files: a PNG text with the whole generation.
    Rule(
        "InvokeAI",
        ("png-text:invokeai_metadata",),
        json=(("generation_mode", r"inpaint|outpaint"), ("app_version", r"\d")),
        says="ai-edited",
    ),
    Rule("InvokeAI", ("png-text:invokeai_metadata",), json=(("generation_mode", r"2img"), ("seed", r"\d"))),
    # InvokeAI 2, ldm/invoke/pngwriter.py: sd-metadata, and the command line as Dream.
    Rule("InvokeAI", ("png-text:sd-metadata",), json=(("app_id", r"[Ii]nvoke-?AI"), ("image.sampler", r"."))),
    Rule("InvokeAI", ("png-text:Dream",), r'\A"(?=[^\n]*" )(?=[^\n]*\s-s ?\d)(?=[^\n]*\s-S ?\d)'),
    # --- NovelAI: Software, Source and a Comment that is an object.
    Rule(
        "NovelAI",
        ("png-text:Comment",),
        json=(("sampler", r"."), ("steps", r"\d"), ("seed", r"\d")),
        also=(("png-text:Software", r"\ANovelAI\Z"),),
    ),
    # --- Easy Diffusion ui/easydiffusion/utils/save_utils.py: a PNG text for each setting, or an object.
    Rule(
        "Easy Diffusion",
        ("png-text:use_stable_diffusion_model", "png-text:Stable Diffusion model"),
        r".",
        also=(("png-text:num_inference_steps", r"\A\d+\Z"),),
        prompt="png-text:prompt",
    ),
    Rule(
        "Easy Diffusion",
        ("png-text:Stable Diffusion model",),
        r".",
        also=(("png-text:Guidance Scale", r"\A[\d.]+\Z"),),
        prompt="png-text:Prompt",
    ),
    Rule(
        "Easy Diffusion",
        ("exif:UserComment",),
        json=(("use_stable_diffusion_model", r"."), ("num_inference_steps", r"\d")),
    ),
    # --- Draw Things: XMP exif:UserComment, an object with c (the prompt), uc, sampler, scale, seed, steps.
    Rule(
        "Draw Things",
        ("xmp:UserComment", "exif:UserComment"),
        json=(("c", ""), ("uc", ""), ("sampler", r"."), ("scale", r"\d"), ("seed", r"\d"), ("steps", r"\d")),
    ),
    Rule("Draw Things", ("xmp:CreatorTool",), r"\ADraw Things\b"),
    # --- Artroom: EXIF UserComment, an object with text_prompts, sampler and ckpt.
    Rule("Artroom", ("exif:UserComment",), json=(("text_prompts", r"."), ("sampler", r"."), ("ckpt", r"."))),
    # --- Mochi Diffusion MetadataCodec.swift: the IPTC caption has "Include in Image: ...", "Seed: 1" and
    # "Generator: Mochi Diffusion 6.0", on one line each or with semicolons; IPTC's program names it.
    Rule(
        "Mochi Diffusion",
        ("iptc:Caption", "xmp:description", "exif:ImageDescription", "png-text:Description"),
        r"(?s)\A(?=.*\bInclude in Image: )(?=.*\bSeed: \d).*\bGenerator: Mochi Diffusion\b",
    ),
    Rule("Mochi Diffusion", ("iptc:OriginatingProgram",), r"\AMochi Diffusion\Z", prompt="iptc:Caption"),
    # --- Midjourney: PNG text Description, XMP description or IPTC caption: the prompt with its parameters,
    # then "Job ID: " and a UUID.
    Rule(
        "Midjourney",
        ("png-text:Description", "xmp:description", "iptc:Caption", "exif:ImageDescription"),
        rf"(?s)\A(?=.*\s--(?:v|version|niji|ar|aspect|stylize|s|chaos|style|raw|q|seed|sref|profile|p)\b)"
        rf".*\sJob ID: {_UUID}\s*\Z",
    ),
    # --- Black Forest Labs flux src/flux/util.py (save_image): EXIF Software "AI generated;txt2img;flux".
    Rule(
        "FLUX",
        ("exif:Software",),
        r"\AAI generated;(txt2img|img2img)\b",
        prompt="exif:ImageDescription",
    ),
    # Stability AI generative-models scripts/demo writes nothing; its API and DreamStudio sign with C2PA.
    # --- xAI Grok (Aurora): EXIF ImageDescription "Signature: " and base64, Artist a UUID.
    Rule(
        "Grok",
        ("exif:ImageDescription",),
        r"\ASignature: [A-Za-z0-9+/]{40,}={0,2}\s*\Z",
        also=(("exif:Artist", rf"\A{_UUID}\Z"),),
    ),
    # --- Ideogram: EXIF Make.
    Rule("Ideogram", ("exif:Make",), r"\AIdeogram AI\Z"),
    # --- Google (Gemini, Imagen; Pixel and Photos editors): IPTC credit line, beside the source type.
    Rule("Google AI", ("xmp:Credit", "iptc:Credit"), r"\AMade with Google AI\Z"),
    Rule("Google AI", ("xmp:Credit", "iptc:Credit"), r"\AEdited with Google AI\Z", says="ai-edited"),
    # --- Apple (iOS 18.2): IPTC credit line, beside the source type.
    Rule("Apple Image Playground", ("xmp:Credit", "iptc:Credit"), r"\AApple Image Playground\Z"),
    Rule(
        "Apple Photos",
        ("xmp:Credit", "iptc:Credit"),
        r"\AApple Photos (Clean Up|Generative Edit)\Z",
        says="ai-edited",
    ),
    # --- Adobe Firefly, ChatGPT and DALL-E sign with C2PA and leave no other mark that is documented.
    # --- Luma AI: PNG texts Source and Comment.
    Rule(
        "Luma AI",
        ("png-text:Comment",),
        r"\AGenerated by Luma AI's \S+ model",
        also=(("png-text:Source", r"\ALuma AI\Z"),),
    ),
    # --- China's label (GB 45438-2025, TC260-PG-20258A): XMP AIGC or a PNG text; Label 1 is "generated".
    Rule("AIGC label", ("xmp:AIGC", "png-text:AIGC"), json=(("Label", r"\A1\Z"), ("ContentProducer", ""))),
    Rule(
        "AIGC label",
        ("exif:UserComment", "exif:ImageDescription"),
        json=(("AIGC.Label", r"\A1\Z"), ("AIGC.ContentProducer", "")),
    ),
)
