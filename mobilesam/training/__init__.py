"""Training and validation of promptable segmentation models. Needs neither Gradio nor a network."""
