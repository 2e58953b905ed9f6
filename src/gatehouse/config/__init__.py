"""Reads the config file and returns checked models, or every problem of the file at once.

location        finds the config file
load            reads a file, merges presets, validates, applies the rules, and turns refusals into problems
document        YAML as data with line numbers; explains YAML syntax errors
presets         merges a source with the preset of its provider
model           the models of the file; those of its sections: sources, handshakes, verifiers, signatures
base            what all models share; names, templates and lists as values
quantities      durations, sizes, rates, numbers and status ranges as values
addresses       listen addresses, URLs, paths and networks as values; store_url: the URL of the store
secrets         references to secrets, and how they are resolved; secret_references: as values
rules           rules between keys of different sections; source_rules: rules within one source
hints           what a problem suggests
lint            warnings about configs that load
coverage        which values of a request a source's verifiers prove
describe        verifiers, templates and dedupe keys in words
"""
