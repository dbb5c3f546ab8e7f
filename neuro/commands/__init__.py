"""What the commands of `neuro` do: one file per command, its `main` typed so that its signature is the command line."""
