"""The plug-ins that evalsvc ships."""
