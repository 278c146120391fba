"""Skills that come with the package, made by real runs of its playbooks; their folders lie beside this file."""
