"""Explains why a request was refused. None of this runs while the gateway serves a request.

diagnose            `diagnose`, the entry point: the findings for one refused request
search              changes to config, secrets and request until the request verifies
observations        what the request shows by itself: its timestamp, length, form and digest
signature_headers   signature headers that are missing, occur twice, or belong to another provider
items               the refused elements of a batch
before_verification requests that were refused before their verification
known               the sources: each verifier with its config and its secrets
config_changes      changes to the config of a verifier and to its secrets
request_variants    the request before a proxy changed its body or its address in one way
combined_bodies     the body before a proxy changed it in several ways
json_forms          one JSON text, written in other forms
finding             one finding: its text, what was expected and received, and the key to change
wording             phrases that several findings use
"""
