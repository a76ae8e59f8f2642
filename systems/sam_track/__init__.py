"""SAM extended for tracking: a template frame and its mask in place of prompts."""

# How seed 004 trains it, where the shared defaults differ: Adam at a constant 1e-4 and nothing else.
TRAINING = {
    "optimizer": "adam",
    "lr_head": 1e-4,
    "weight_decay": 0.0,
    "schedule": "constant",
    "warmup_steps": 0,
    "clip_grad": 0.0,
    "ema": 0.0,
}
