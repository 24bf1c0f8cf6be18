"""What a folder holds of evidence about a model or a controller, checked again and collected on one page."""
