"""A laboratory on two cores: small models, real reinforcement learning, many estimators, honest intervals."""
