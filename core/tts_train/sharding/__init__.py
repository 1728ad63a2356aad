"""How a run is divided over processes: ``--trainer.strategy fsdp`` by the stage's sharding plan; ddp is Lightning's."""
