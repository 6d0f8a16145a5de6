"""What Haetae's processes share. Importing it starts nothing and pulls in neither torch nor cv2."""
