"""What has to be looked up on the host before a driver can decide: the installed engine's own flags, and the model's own files.

===================  =============================================================================
`installed_flags`    asks the engine's program once, and keeps the answer beside the environments
`model_directory`    reads a model's `config.json` and chat template
`list_flags`         the script that the engine's own Python runs to answer; it imports nothing of ours
===================  =============================================================================
"""
