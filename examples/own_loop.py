"""A Boxel model in a plain PyTorch loop, on generated images: `python examples/own_loop.py`."""

import torch

from boxel import Batch, Instances
from boxel.models import ResNetConfig, RetinaNet, RetinaNetConfig

torch.manual_seed(0)
config = RetinaNetConfig(backbone=ResNetConfig(depth=18, start_filters=16, norm="batch"))
model = RetinaNet(ndim=2, in_channels=1, num_classes=1, config=config)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range(60):
    lower = torch.randint(0, 40, (4, 1, 2))  # one square of 24 pixels in each of four images
    images = 0.1 * torch.randn(4, 1, 64, 64)
    for image, (row, column) in zip(images, lower[:, 0].tolist(), strict=True):
        image[0, row : row + 24, column : column + 24] += 1
    objects = [Instances.from_boxes(corner + torch.tensor([[[0, 0], [24, 24]]]), labels=[0]) for corner in lower]
    loss = sum(model(images, Batch(images, instances=objects)).values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 9:
        print(f"step {step + 1}: loss {loss.item():.3f}")

[detections] = model.eval()(images[:1])
print("true box", objects[0].boxes[0].tolist(), "predicted", detections.boxes[0].round().tolist())
