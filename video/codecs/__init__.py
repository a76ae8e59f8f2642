"""Plain JPEG and PNG files, decoded in less time than Pillow takes; all others are Pillow's."""
