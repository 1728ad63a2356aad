"""How a run is divided over processes: ``--trainer.strategy fsdp`` by the stage's ``Sharding``; ddp is Lightning's."""
