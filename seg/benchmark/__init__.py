"""Speed and memory of this project beside other libraries, measured in the same run."""
