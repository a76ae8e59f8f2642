"""Videos as FFmpeg and OpenCV read them: files, cameras, addresses, standard input; and a window."""
