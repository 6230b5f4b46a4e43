"""What a plug-in of partsig may hold."""
