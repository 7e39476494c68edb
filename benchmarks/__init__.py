"""What is fast and what it costs: each module prints one Markdown table with the machine named."""
