"""Gradio's own parts in the colours of the page: those of `canvas/tokens.css`, light and dark."""

from __future__ import annotations

import gradio as gr

# System fonts only, as on the page: nothing is fetched for them.
FONT = ("system-ui", "-apple-system", "'Segoe UI'", "Roboto", "'Helvetica Neue'", "sans-serif")
FONT_MONO = ("ui-monospace", "Consolas", "'Liberation Mono'", "monospace")

# Name in tokens.css: (light, dark).
COLORS = {
    "bg": ("#fafaf8", "#101214"),
    "surface": ("#ffffff", "#191c20"),
    "sunken": ("#eeeeeb", "#08090a"),
    "line": ("#dfdfda", "#2d3238"),
    "text": ("#1b1d20", "#eceef0"),
    "muted": ("#5d6269", "#a2a9b2"),
    "accent": ("#0b63e5", "#4c93ff"),
    "accent-text": ("#ffffff", "#06142b"),
    "chosen": ("#e6effd", "#1a2f4f"),
    "chosen-text": ("#0b57d0", "#8ab9ff"),
    "warn": ("#fff4e5", "#35260f"),
    "warn-line": ("#f0c48a", "#7a5720"),
    "warn-text": ("#6b3d00", "#ffd9a3"),
}

# Gradio's variable: the page's colour. Those not named follow from these.
_VARIABLES = {
    "body_background_fill": "bg",
    "body_text_color": "text",
    "body_text_color_subdued": "muted",
    "background_fill_primary": "surface",
    "background_fill_secondary": "sunken",
    "border_color_primary": "line",
    "border_color_accent": "accent",
    "color_accent_soft": "chosen",
    "block_background_fill": "surface",
    "block_label_background_fill": "surface",
    "block_label_text_color": "muted",
    "block_title_text_color": "text",
    "panel_background_fill": "surface",
    "code_background_fill": "sunken",
    "link_text_color": "chosen-text",
    "link_text_color_active": "chosen-text",
    "link_text_color_hover": "accent",
    "link_text_color_visited": "chosen-text",
    "button_primary_background_fill": "accent",
    "button_primary_background_fill_hover": "chosen-text",
    "button_primary_border_color": "accent",
    "button_primary_border_color_hover": "chosen-text",
    "button_primary_text_color": "accent-text",
    "button_secondary_background_fill": "surface",
    "button_secondary_background_fill_hover": "sunken",
    "button_secondary_border_color": "line",
    "button_secondary_border_color_hover": "line",
    "button_secondary_text_color": "text",
    "button_cancel_text_color_hover": "text",
    "checkbox_background_color": "surface",
    "checkbox_border_color": "muted",
    "checkbox_border_color_hover": "accent",
    "checkbox_label_background_fill_selected": "chosen",
    "input_background_fill": "surface",
    "input_border_color_focus": "accent",
    "input_placeholder_color": "muted",
    "table_border_color": "line",
    "table_even_background_fill": "surface",
    "table_odd_background_fill": "bg",
    "error_background_fill": "warn",
    "error_border_color": "warn-line",
    "error_icon_color": "warn-text",
    "error_text_color": "warn-text",
}


def page_theme() -> gr.themes.Base:
    """Return the theme; `Blocks.launch(theme=...)` takes it."""
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.blue,
        neutral_hue=gr.themes.colors.zinc,
        radius_size=gr.themes.sizes.radius_md,
        font=FONT,
        font_mono=FONT_MONO,
    )
    light = {variable: COLORS[color][0] for variable, color in _VARIABLES.items()}
    dark = {f"{variable}_dark": COLORS[color][1] for variable, color in _VARIABLES.items()}
    accent, accent_dark = COLORS["accent"]
    theme.set(
        **light,
        **dark,
        color_accent=accent,
        slider_color=accent,
        slider_color_dark=accent_dark,
        loader_color=accent,
        checkbox_background_color_selected_dark=accent_dark,
        checkbox_border_color_selected_dark=accent_dark,
        checkbox_border_color_focus_dark=accent_dark,
        button_border_width="1px",
        input_border_width="1px",
        block_border_width="1px",
        block_shadow="none",
        block_label_shadow="none",
        button_primary_shadow="none",
        button_secondary_shadow="none",
        button_large_text_weight="600",
        button_large_text_size="14px",
        button_large_radius="10px",
        button_medium_radius="10px",
        input_radius="10px",
        button_medium_text_weight="600",
        block_title_text_weight="600",
        shadow_drop="none",
        input_shadow="none",
        input_shadow_focus=f"0 0 0 2px {accent}55",
        input_shadow_focus_dark=f"0 0 0 2px {accent_dark}66",
    )
    return theme
