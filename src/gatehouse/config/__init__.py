"""The config file: from YAML to frozen models, or to every problem at once.

load          the way of a file: read → merge presets → validate → compare the parts
document      YAML as data with lines; words, problems: what is wrong, in words, and where
syntax        what is no YAML, on the line of the mistake; mistakes, misspelt: what was probably meant
presets       a source with a provider starts from its preset
model         what the file may hold, with sources and verifiers; scalars, places, texts: types of values
references    what is wrong between the parts of the file; relations: of a source; readable: helps both
lint          what loads, and is probably not what was meant
schema        the JSON Schema for editors; reference: the tables of docs/configuration.md
"""
