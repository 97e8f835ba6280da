"""The rules of the plan in words, with their reasons: `boxel plan --explain`. `Task.why` says what they gave."""

from boxel.preparation.anchors import OBJECT_CELLS
from boxel.preparation.patch_and_strides import LEAST_FILLED, MAX_LEVELS, MIN_CELLS, MIN_STAGES, SMALL_CELLS
from boxel.preparation.plan import ANCHOR_GAIN
from boxel.preparation.target_spacing import ANISOTROPY, MEDIAN_OBJECT, SMALL_OBJECT, SURROUNDINGS

# By the choices of the plan, which are the keys of `Task.why`.
RULES = {
    "ndim": (
        "The model has as many axes as the images, so that it sees all of their context; plan.ndim=2 makes a model "
        "of slices, which has fewer weights and takes less memory."
    ),
    "spacing": (
        "The median voxel size of the training cases: half of them lose no detail, and few are enlarged. Along an "
        f"axis that is {ANISOTROPY:g} times as coarse as the finest it is the 10th percentile: planes added there "
        "cost little, planes left out lose small objects. Images are made coarser, the finest axes first, until "
        f"plan.voxels_per_step holds plan.large_patches of {SURROUNDINGS:g} times the extent of large objects, as long "
        f"as the median object keeps {MEDIAN_OBJECT:g} voxels per axis and small ones of each class {SMALL_OBJECT:g}: "
        "a network that sees a part of an object hardly finds its border."
    ),
    "normalisation": (
        "CT, whose values have a unit, is clipped and scaled alike in all images; a channel of another name is "
        "scaled image by image, since its values depend on the scanner."
    ),
    "levels": (
        f"Objects, from small to large, span about {OBJECT_CELLS:g} cells of a level: fewer say little about their "
        f"shape, more are beyond what a cell sees. There are at most {MAX_LEVELS} levels, and P1 is used only if "
        f"small objects span fewer than {SMALL_CELLS:g} cells of P2, since it costs most."
    ),
    "strides": (
        f"An axis is halved while its feature map keeps {MIN_CELLS} cells, those twice as coarse as the finest "
        f"later, so that cells become cubes in mm. Stages beyond the last level, up to {MIN_STAGES} at least, give "
        f"context, unless less than {LEAST_FILLED:.0%} of a patch were image."
    ),
    "patch_size": (
        "The largest patch with edges equal in mm that half of plan.voxels_per_step allows, within the image: "
        "context decides more than the number of patches; but plan.patch_extent limits it, so that a step sees more "
        "objects. It holds large objects where it can."
    ),
    "anchors": (
        "Sizes fitted to the objects but specks and outliers, so that each has an anchor of about its size; a further "
        f"one per position must raise the mean best IoU by {ANCHOR_GAIN:g}."
    ),
    "batch_size": (
        "As many patches as plan.voxels_per_step allows, 2 to 16: a step with more costs more and learns little "
        "more. plan.memory sets plan.voxels_per_step to what fits, as measured."
    ),
    "max_detections": ("Three times the largest number of objects of a training case, so that no object is left out."),
    "masks": ("Masks are trained where some objects have them: models that segment learn boxes from fewer images."),
}
