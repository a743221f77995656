"""Reading and writing files: bytes in, arrays out."""
