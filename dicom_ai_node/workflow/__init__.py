"""The durable steps of one study, and their states.

`job` names things, `plan` decides, `ledger` records, `durable` carries out, `coordinator` keeps all going;
`steps` and `worker` do the analysis in a process of its own, `handover` is what the steps leave each other on
disk.
"""
