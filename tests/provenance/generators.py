"""A file of each generator, made by writing the chunk that the tool writes. The prompts hold `SECRET`."""

from __future__ import annotations

import json

from tests.provenance.files import (
    encoded,
    exif,
    jpeg,
    picture,
    png,
    unicode_comment,
    with_iim,
    with_xmp,
)

SECRET = "portrait of Jane Q Secret"
UUID = "5b8ad37b-1f0c-4b0e-9a52-6a1de5b1a0f3"
LINE = "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 965400086, Size: 512x768"
A1111 = (
    f"{SECRET}, 85mm\nNegative prompt: blurry\n{LINE}, Model hash: 6ce0161689, Model: v1-5, Version: v1.10.1"
)


def a1111(more: str) -> str:
    return f"{SECRET}\nNegative prompt: ugly\n{LINE}, {more}"


COMFY = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 8566257, "steps": 20, "cfg": 8, "model": ["4", 0]}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": SECRET}, "is_changed": [float("nan")]},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["8", 0]}},
}
WORKFLOW = {
    "last_node_id": 9,
    "nodes": [{"id": 3, "type": "KSampler"}, {"id": 6, "type": "CLIPTextEncode", "widgets_values": [SECRET]}],
    "links": [[1, 4, 0, 3, 0, "MODEL"]],
}
FOOOCUS = {
    "base_model": "juggernautXL_v8",
    "full_prompt": [SECRET],
    "performance": "Speed",
    "seed": "123",
    "version": "Fooocus v2.5.5",
}
SWARM = {
    "sui_image_params": {"prompt": SECRET, "model": "OfficialStableDiffusion/sd_xl", "seed": 1, "steps": 20}
}
INVOKE = {"generation_mode": "txt2img", "positive_prompt": SECRET, "seed": 1, "app_version": "5.6.0"}
SD_METADATA = {
    "app_id": "invoke-ai/InvokeAI",
    "app_version": "v2.3.5",
    "image": {"prompt": [{"prompt": SECRET}], "sampler": "k_lms", "steps": 50},
}
NOVELAI = {"prompt": SECRET, "steps": 28, "sampler": "k_euler", "seed": 1, "scale": 5.0, "uc": "lowres"}
DRAW_THINGS = {
    "c": SECRET,
    "uc": "blur",
    "sampler": "Euler a",
    "scale": 7,
    "seed": 1,
    "steps": 20,
    "size": "512x512",
    "v2": {},
}
EASY = {
    "prompt": SECRET,
    "use_stable_diffusion_model": "sd-v1-4",
    "num_inference_steps": "25",
    "guidance_scale": "7.5",
}
EASY_LABELS = {"Prompt": SECRET, "Stable Diffusion model": "sd-v1-4", "Guidance Scale": "7.5", "Steps": "25"}
AIGC = {"Label": "1", "ContentProducer": "001191110108MA01KP2T5U00000", "ProduceID": "x"}
MIDJOURNEY = f"{SECRET} --ar 2:3 --v 6.1 Job ID: {UUID}"
MOCHI = f"Include in Image: {SECRET}; Model: sd-v1-5; Steps: 20; Seed: 1; Generator: Mochi Diffusion 5.0"
GROK = {"ImageDescription": "Signature: " + "aB3+/" * 20 + "==", "Artist": UUID}


def escaped(value: object) -> str:
    return json.dumps(value).replace('"', "&quot;")


def comment(text: str | dict[str, object]) -> bytes:
    return jpeg(UserComment=unicode_comment(text if isinstance(text, str) else json.dumps(text)))


def dump(value: object) -> str:
    return json.dumps(value)


GENERATED: dict[str, tuple[str, bytes]] = {
    "a1111 png": ("Stable Diffusion web UI", png({"parameters": A1111})),
    "a1111 without a prompt": ("Stable Diffusion web UI", png({"parameters": LINE})),
    "a1111 jpeg": ("Stable Diffusion web UI", comment(A1111)),
    "a1111 webp": (
        "Stable Diffusion web UI",
        encoded("WEBP", exif=exif(UserComment=unicode_comment(A1111)).tobytes()),
    ),
    "a1111 avif": (
        "Stable Diffusion web UI",
        encoded("AVIF", speed=10, exif=exif(UserComment=unicode_comment(A1111)).tobytes()),
    ),
    "a1111 gif": ("Stable Diffusion web UI", encoded("GIF", comment=A1111.encode())),
    "a1111 little-endian": (
        "Stable Diffusion web UI",
        jpeg(UserComment=b"UNICODE\0" + A1111.encode("utf-16-le")),
    ),
    "a1111 in ASCII": ("Stable Diffusion web UI", jpeg(UserComment=b"ASCII\0\0\0" + A1111.encode())),
    "forge": ("Stable Diffusion WebUI Forge", png({"parameters": a1111("Version: f2.0.1v1.10.1")})),
    "sd.next": ("SD.Next", png({"parameters": a1111("App: SD.Next, Version: 1e840bc")})),
    "civitai": ("Civitai", comment(a1111('Civitai resources: [{"type":"checkpoint"}]'))),
    "fooocus png": ("Fooocus", png({"parameters": dump(FOOOCUS), "fooocus_scheme": "fooocus"})),
    "fooocus as a1111": ("Fooocus", png({"parameters": A1111, "fooocus_scheme": "a1111"})),
    "fooocus without a scheme": ("Fooocus", png({"parameters": dump(FOOOCUS)})),
    "fooocus jpeg": (
        "Fooocus",
        jpeg(UserComment=dump(FOOOCUS).encode(), Software="Fooocus v2.5.5", MakerNote=b"fooocus"),
    ),
    "fooocus jpeg as a1111": (
        "Fooocus",
        jpeg(UserComment=A1111.encode(), Software="Fooocus v2.5.5", MakerNote=b"a1111"),
    ),
    "ruinedfooocus": (
        "RuinedFooocus",
        png({"parameters": dump({"software": "RuinedFooocus", "Prompt": SECRET, "seed": 5})}),
    ),
    "swarmui png": ("SwarmUI", png({"parameters": dump(SWARM)})),
    "swarmui jpeg": ("SwarmUI", comment(SWARM)),
    "comfyui prompt": ("ComfyUI", png({"prompt": dump(COMFY), "workflow": dump(WORKFLOW)})),
    "comfyui workflow": ("ComfyUI", png({"workflow": dump(WORKFLOW)})),
    "comfyui webp": (
        "ComfyUI",
        encoded("WEBP", exif=exif(Model="prompt:" + dump(COMFY), Make="workflow:{}").tobytes()),
    ),
    "comfyui compressed": ("ComfyUI", png({"prompt": dump({**COMFY, "6": {"note": SECRET * 99}})})),
    "invokeai 3": ("InvokeAI", png({"invokeai_metadata": dump(INVOKE)})),
    "invokeai 2": ("InvokeAI", png({"sd-metadata": dump(SD_METADATA)})),
    "invokeai 1": ("InvokeAI", png({"Dream": f'"{SECRET}" -s 50 -S 42 -W 512 -H 512 -C 7.5 -A k_lms'})),
    "novelai": (
        "NovelAI",
        png({"Title": "AI generated image", "Software": "NovelAI", "Comment": dump(NOVELAI)}),
    ),
    "easy diffusion png": ("Easy Diffusion", png(EASY)),
    "easy diffusion labels": ("Easy Diffusion", png(EASY_LABELS)),
    "easy diffusion jpeg": ("Easy Diffusion", comment(EASY)),
    "draw things": (
        "Draw Things",
        with_xmp(
            "<exif:UserComment><rdf:Alt><rdf:li xml:lang='x-default'>"
            f"{escaped(DRAW_THINGS)}</rdf:li></rdf:Alt></exif:UserComment>",
            kind="PNG",
        ),
    ),
    "draw things by name": ("Draw Things", with_xmp(attributes='xmp:CreatorTool="Draw Things"')),
    "artroom": ("Artroom", comment({"text_prompts": SECRET, "sampler": "euler", "ckpt": "model.ckpt"})),
    "mochi diffusion": ("Mochi Diffusion", with_iim(Caption=MOCHI)),
    "mochi diffusion, lines": ("Mochi Diffusion", with_iim(Caption=MOCHI.replace("; ", "\n"))),
    "mochi diffusion by name": ("Mochi Diffusion", with_iim(OriginatingProgram="Mochi Diffusion")),
    "midjourney png": ("Midjourney", png({"Description": MIDJOURNEY, "Author": "someone"})),
    "midjourney jpeg": ("Midjourney", with_iim(Caption=MIDJOURNEY)),
    "midjourney xmp": (
        "Midjourney",
        with_xmp(f"<dc:description><rdf:Alt><rdf:li>{MIDJOURNEY}</rdf:li></rdf:Alt></dc:description>"),
    ),
    "flux": (
        "FLUX",
        jpeg(Software="AI generated;txt2img;flux", Make="Black Forest Labs", ImageDescription=SECRET),
    ),
    "grok": ("Grok", jpeg(**GROK)),
    "ideogram": ("Ideogram", jpeg(Make="Ideogram AI")),
    "google credit": ("Google AI", with_xmp(attributes='photoshop:Credit="Made with Google AI"')),
    "google credit in iim": ("Google AI", with_iim(Credit="Made with Google AI")),
    "image playground": ("Apple Image Playground", with_iim(Credit="Apple Image Playground")),
    "luma": (
        "Luma AI",
        png({"Source": "Luma AI", "Comment": "Generated by Luma AI's Uni-1 model (https://lumalabs.ai)"}),
    ),
    "aigc xmp": ("AIGC label", with_xmp(f"<TC260:AIGC>{escaped(AIGC)}</TC260:AIGC>")),
    "aigc png": ("AIGC label", png({"AIGC": dump(AIGC)})),
    "aigc description": ("AIGC label", jpeg(ImageDescription=dump({"AIGC": AIGC}))),
    "aigc exif": ("AIGC label", comment({"AIGC": AIGC})),
}
"""Name, then the tool that must be found and the file."""

EDITED: dict[str, tuple[str, bytes]] = {
    "a1111 inpainting": ("Stable Diffusion web UI", png({"parameters": a1111("Mask blur: 4")})),
    "invokeai inpainting": (
        "InvokeAI",
        png({"invokeai_metadata": dump({**INVOKE, "generation_mode": "sdxl_inpaint"})}),
    ),
    "google edit": ("Google AI", with_xmp(attributes='photoshop:Credit="Edited with Google AI"')),
    "apple clean up": ("Apple Photos", with_iim(Credit="Apple Photos Clean Up")),
}

ABOUT = "A review of Stable Diffusion, Midjourney and DALL-E: with Steps: 20 the Sampler: Euler looks best."
NEAR_MISSES: dict[str, bytes] = {
    "a caption says midjourney": jpeg(ImageDescription="My trip to Midjourney, Alaska"),
    "a caption about midjourney": with_iim(Caption="Midjourney prompts: castle --v 6, sea --ar 2:3"),
    "a job number": png({"Description": f"Invoice scan. Job ID: {UUID}"}),
    "a job number within": png({"Description": f"{MIDJOURNEY} and then more of the story"}),
    "a file about stable diffusion": png({"Description": ABOUT, "Comment": ABOUT}),
    "about, as parameters": png({"parameters": ABOUT}),
    "parameters of a microscope": png({"parameters": "Steps: 20, Exposure: 5 ms, Gain: 2"}),
    "steps of a recipe": png({"parameters": "Steps: 3, mix, stir, bake\nSeed: 12 sunflower seeds"}),
    "an upscaled photograph": png(
        {"parameters": "Postprocess upscale by: 4, Postprocess upscaler: ESRGAN_4x"}
    ),
    "photoshop": png({"Software": "Adobe Photoshop 27.0"}),
    "photoshop jpeg": jpeg(Software="Adobe Photoshop 27.0 (Windows)"),
    "lightroom": with_xmp(attributes='xmp:CreatorTool="Adobe Photoshop Lightroom Classic 14.0"'),
    "a workflow of an editor": png({"workflow": dump({"steps": ["crop", "sharpen"], "nodes": 2})}),
    "a graph of an editor": png(
        {
            "workflow": dump(
                {"last_node_id": 2, "links": [], "nodes": [{"type": "Blur"}, {"type": "Resampler"}]}
            )
        }
    ),
    "comfyui as an editor": png(
        {
            "prompt": dump(
                {
                    "1": {"class_type": "LoadImage", "inputs": {}},
                    "2": {"class_type": "SaveImage", "inputs": {}},
                }
            )
        }
    ),
    "a prompt in another object": png({"prompt": dump({"prompt": "Say cheese!", "app": "photo booth"})}),
    "a prompt as a text": png({"prompt": "KSampler class_type inputs"}),
    "a prompt of a shell": png({"prompt": "$ convert a.png b.png"}),
    "a list as prompt": png({"prompt": dump([{"class_type": "KSampler"}])}),
    "a comment with steps": png({"Comment": dump({"sampler": "water", "steps": 3, "seed": 1})}),
    "created with gimp": png({"Comment": "Created with GIMP", "Software": "GIMP 3.0"}),
    "a dream": png({"Dream": "I had a dream -s"}),
    "sd-metadata of a card": png({"sd-metadata": dump({"card": "SD", "image": {"sampler": "x"}})}),
    "a model named prompt": jpeg(Make="Canon", Model="prompt: 5D"),
    "software named diffusion": jpeg(Software="Diffusion Filter 2.0"),
    "software about ai": jpeg(Software="AI generated captions 1.2"),
    "made by black forest labs": jpeg(Make="Black Forest Camera Works"),
    "a signed description": jpeg(ImageDescription="Signature: J. Smith", Artist=UUID),
    "a signature without an artist": jpeg(ImageDescription=GROK["ImageDescription"]),
    "a camera named ideogram": jpeg(Make="Ideogram AI Cameras Ltd"),
    "a credit line": with_iim(Credit="Made with Google AI skeptics in mind / Reuters"),
    "a photographer named draw": with_xmp(attributes='xmp:CreatorTool="Drawing Things Pro"'),
    "aigc not generated": png({"AIGC": dump({"Label": "3", "ContentProducer": "x"})}),
    "aigc of another kind": png({"AIGC": "American Institute for Graphic Communication"}),
    "generation mode of a solar park": png({"invokeai_metadata": dump({"generation_mode": "solar"})}),
    "a comment about luma": png({"Comment": "Generated by Luma AI's Uni-1 model? No, drawn by hand."}),
    "firefly by name": with_xmp(attributes='xmp:CreatorTool="Firefly Screenshot 2"'),
    "captured": with_xmp(
        attributes='Iptc4xmpExt:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/screenCapture"'
    ),
    "another's source type": with_xmp(
        "<xmpMM:Ingredients><rdf:Bag><rdf:li rdf:parseType='Resource'>"
        "<Iptc4xmpExt:DigitalSourceType>trainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>"
        "</rdf:li></rdf:Bag></xmpMM:Ingredients>"
    ),
    "a caption with the vocabulary": with_xmp(
        "<dc:description><rdf:Alt><rdf:li>trainedAlgorithmicMedia</rdf:li></rdf:Alt></dc:description>"
    ),
    "plain": encoded("JPEG", picture()),
    "pixels that spell it": encoded("JPEG") + b"parameters\0" + A1111.encode(),
    "behind the end": encoded("PNG") + png({"parameters": A1111}),
}
"""Files that speak of generators, or look like theirs, and declare nothing."""
