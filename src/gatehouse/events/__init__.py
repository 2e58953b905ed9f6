"""Events: read from a verified request, identified, routed, and written as HTTP."""
