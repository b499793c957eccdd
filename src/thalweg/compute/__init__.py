"""Where work runs: devices, and engines that share tasks out."""
