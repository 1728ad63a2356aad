"""The stages that train: modules, data modules and optimizers."""
