"""What is typed: one file per noun, each command a few lines that ask the coordinator and show the answer."""
