"""Headings between a command's flags, where there are many of them."""

from __future__ import annotations

import click

# A flag is named by its parameter; one that is in no section comes first, among the command's own.
SECTIONS: dict[str, tuple[str, ...]] = {
    "Models": (
        *("config", "model_dirs", "model_path", "alias", "auto"),
        *("models_max", "models_memory", "idle_unload", "chat_template", "lora"),
    ),
    "Images": (
        *("mmproj", "use_mmproj", "mmproj_offload", "image_min_tokens", "image_max_tokens"),
    ),
    "Context and requests": (
        *("n_ctx", "n_parallel", "n_batch", "n_ubatch", "kv_unified", "cache_type_k"),
        *("cache_type_v", "cache_ram", "swa_full", "ctx_checkpoints", "context_shift"),
        *("slot_save_path", "max_queue"),
    ),
    "Processor and memory": ("n_threads", "n_threads_batch", "load_mode", "repack", "flash_attn"),
    "GPU": (
        *("gpu_backend", "devices", "n_gpu_layers", "gpu_fallback", "retry_backends"),
        *("split_mode", "tensor_split", "main_gpu", "offload_kqv", "op_offload"),
    ),
    "Mixtures of experts": ("cpu_moe", "n_cpu_moe", "override_tensor"),
    "RoPE": (
        *("rope_scaling", "rope_freq_base", "rope_freq_scale", "yarn_orig_ctx"),
        *("yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"),
    ),
}

_HEADINGS = {name: heading for heading, names in SECTIONS.items() for name in names}


class SectionedCommand(click.Command):
    """A command whose help has its own flags first, then those of each section under a heading."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the flags; within a section they stand in the section's order."""
        rows: dict[str, dict[str, tuple[str, str]]] = {
            "Options": {},
            **{one: {} for one in SECTIONS},
        }
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is not None and param.name is not None:
                rows[_HEADINGS.get(param.name, "Options")][param.name] = row
        for heading, found in rows.items():
            order = [name for name in SECTIONS.get(heading, found) if name in found]
            if order:
                with formatter.section(heading):
                    formatter.write_dl([found[name] for name in order])
