"""Write a small data set in each layout that Boxel opens, for docs/bring-your-data.md and the tests.

    python docs/example_layouts.py DIR

Every image shows one bright object on noise. The files are written without Boxel, as other tools write them.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image as Picture

OUT = Path(sys.argv[1])
RNG = np.random.default_rng(0)
LOWER, UPPER = (4, 10, 12), (8, 18, 24)  # z, y, x of the object, voxels


def text(path: str, content: str) -> None:
    (OUT / path).parent.mkdir(parents=True, exist_ok=True)
    (OUT / path).write_text(content)


def picture(path: str, array: np.ndarray) -> None:
    (OUT / path).parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(array).save(OUT / path)


def volume(path: str, array: np.ndarray) -> None:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 1.0, 2.0))
    (OUT / path).parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(OUT / path))


def mask3d() -> np.ndarray:
    mask = np.zeros((12, 32, 40), np.uint8)
    mask[tuple(map(slice, LOWER, UPPER))] = 1
    return mask


def scan() -> np.ndarray:
    return (RNG.normal(-800, 50, (12, 32, 40)) + 800.0 * mask3d()).astype(np.int16)


def photo() -> np.ndarray:
    return (RNG.integers(0, 60, (32, 40)) + 180.0 * mask3d()[5]).astype(np.uint8)


def slices(folder: str, array: np.ndarray, uid: str) -> list[Path]:
    """A DICOM series."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    (OUT / folder).mkdir(parents=True, exist_ok=True)
    files = []
    for number, plane in enumerate(array):
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"{uid}.{number + 1}"
        data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID, data.Modality = CTImageStorage, f"{uid}.{number + 1}", "CT"
        data.SeriesInstanceUID, data.StudyInstanceUID, data.FrameOfReferenceUID = uid, "1.2.3", f"{uid}.0"
        data.PatientID, data.PatientName, data.SeriesNumber, data.InstanceNumber = folder.split("/")[1], "", 1, number
        data.PatientBirthDate = data.PatientSex = data.StudyDate = data.StudyTime = data.StudyID = ""
        data.AccessionNumber = data.ReferringPhysicianName = ""
        data.ImagePositionPatient, data.ImageOrientationPatient = [0, 0, 2 * number], [1, 0, 0, 0, 1, 0]
        data.PixelSpacing, data.SliceThickness, data.Rows, data.Columns = [1, 1], 2, *plane.shape
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 1
        data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
        data.RescaleSlope, data.RescaleIntercept, data.PixelData = 1, 0, plane.tobytes()
        files.append(OUT / folder / f"{number:03d}.dcm")
        data.save_as(files[-1], enforce_file_format=True)
    return files


# nnDetection and Boxel; nnU-Net; the Medical Segmentation Decathlon
for case in ("case_1", "case_2", "case_3"):
    for root in ("nndetection", "nnunet", "decathlon"):
        suffix = "" if root == "decathlon" else "_0000"
        volume(f"{root}/imagesTr/{case}{suffix}.nii.gz", scan())
        volume(f"{root}/labelsTr/{case}.nii.gz", mask3d())
    text(f"nndetection/labelsTr/{case}.json", '{"instances": {"1": 0}}')
head = 'task: Task100_Nodules\ndim: 3\nlabels: {"0": nodule}\nmodalities: {"0": CT}\n'
text("nndetection/dataset.yaml", head)
labels = {"background": 0, "nodule": 1}
text("nnunet/dataset.json", json.dumps({"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}))
names = {"0": "background", "1": "nodule"}
text("decathlon/dataset.json", json.dumps({"name": "Lung", "modality": {"0": "CT"}, "labels": names}))

# Pictures: COCO, Pascal VOC, YOLO, Kaggle's bowl, pairs of files
(z0, y0, x0), (z1, y1, x1) = LOWER, UPPER
images, annotations = [], []
for number, case in enumerate(("a", "b", "c")):
    for path in (f"coco/images/{case}.png", f"voc/JPEGImages/{case}.png", f"pairs/images/{case}.png"):
        picture(path, photo())
    images.append({"id": number, "file_name": f"{case}.png", "width": 40, "height": 32})
    box = [x0, y0, x1 - x0, y1 - y0]
    annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": box, "area": 96, "iscrowd": 0})
    corners = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
    text(
        f"voc/Annotations/{case}.xml",
        f"<annotation><object><name>cell</name><bndbox>{corners}</bndbox></object></annotation>",
    )
    part = "val" if case == "c" else "train"
    picture(f"yolo/images/{part}/{case}.png", photo())
    line = f"0 {(x0 + x1) / 80} {(y0 + y1) / 64} {(x1 - x0) / 40} {(y1 - y0) / 32}\n"
    text(f"yolo/labels/{part}/{case}.txt", line)
    volume(f"medyolo/images/{part}/{case}.nii.gz", scan())
    line = f"0 {(z0 + z1) / 24} {(x0 + x1) / 80} {(y0 + y1) / 64} {(z1 - z0) / 12} {(x1 - x0) / 40} {(y1 - y0) / 32}\n"
    text(f"medyolo/labels/{part}/{case}.txt", line)
    picture(f"stage1_train/{case}/images/{case}.png", photo())
    picture(f"stage1_train/{case}/masks/1.png", 255 * mask3d()[5])
    picture(f"pairs/labels/{case}.png", mask3d()[5])
categories = [{"id": 1, "name": "cell"}]
text("coco/annotations.json", json.dumps({"images": images, "annotations": annotations, "categories": categories}))
text("yolo/data.yaml", "train: images/train\nval: images/val\nnames: [cell]\n")
text("pairs/meta.csv", "file,patient_id\na.png,p1\nb.png,p1\nc.png,p2\n")

# Tables: LUNA16 and boxes; MONAI's datalist
centre = [(x0 + x1 - 1) / 2, (y0 + y1 - 1) / 2, z0 + z1 - 1]
for case in ("1.2.3", "1.2.4"):
    volume(f"luna16/subset0/{case}.mhd", scan())
    volume(f"boxes/{case}.nii.gz", scan())
    volume(f"monai/{case}.nii.gz", scan())
rows = "".join(f"{case},{','.join(map(str, centre))},8\n" for case in ("1.2.3", "1.2.4"))
text("luna16/annotations.csv", "seriesuid,coordX,coordY,coordZ,diameter_mm\n" + rows)
rows = "".join(f"{case}.nii.gz,{x0},{y0},{z0},{x1},{y1},{z1},nodule\n" for case in ("1.2.3", "1.2.4"))
text("boxes/boxes.csv", "file,x1,y1,z1,x2,y2,z2,label\n" + rows)
entries = [{"image": f"{case}.nii.gz", "box": [[*centre, 12, 8, 8]], "label": [0]} for case in ("1.2.3", "1.2.4")]
text("monai/dataset_fold0.json", json.dumps({"training": entries[:1], "validation": entries[1:]}))

# Drawing tools: a rectangle around the object of two pictures
corners, stems = ((x0, y0), (x1, y1)), ("a", "b")
for folder in ("labelme", "via/images", "cvat/images", "cvat_yolo/obj_train_data", "label_studio/images"):
    for stem in stems:
        picture(f"{folder}/{stem}.png", photo())
for stem in stems:
    shape = {"label": "cell", "shape_type": "rectangle", "points": corners, "group_id": None}
    size = {"imageHeight": 32, "imageWidth": 40}
    text(f"labelme/{stem}.json", json.dumps({"imagePath": f"{stem}.png", "shapes": [shape], **size}))
    fractions = f"{(x0 + x1) / 80} {(y0 + y1) / 64} {(x1 - x0) / 40} {(y1 - y0) / 32}"
    text(f"cvat_yolo/obj_train_data/{stem}.txt", f"0 {fractions}\n")
rectangle = {"name": "rect", "x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}
region = {"shape_attributes": rectangle, "region_attributes": {"type": "cell"}}
regions = {f"{stem}.png": {"filename": f"{stem}.png", "regions": [region]} for stem in stems}
text("via/via_project.json", json.dumps({"_via_img_metadata": regions}))
box = f'<box label="cell" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}"/>'
pictures = "".join(f'<image name="{stem}.png" width="40" height="32">{box}</image>' for stem in stems)
text("cvat/annotations.xml", f"<annotations><version>1.1</version>{pictures}</annotations>")
text("cvat_yolo/obj.data", "classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n")
text("cvat_yolo/obj.names", "cell\n")
text("cvat_yolo/train.txt", "".join(f"data/obj_train_data/{stem}.png\n" for stem in stems))
value = {"x": 2.5 * x0, "y": y0 / 0.32, "width": 2.5 * (x1 - x0), "height": (y1 - y0) / 0.32}
value |= {"rotation": 0, "rectanglelabels": ["cell"]}
result = {"type": "rectanglelabels", "original_width": 40, "original_height": 32, "value": value}
tasks = [{"data": {"image": f"/data/upload/1/0a1b2c3d-{s}.png"}, "annotations": [{"result": [result]}]} for s in stems]
text("label_studio/project.json", json.dumps(tasks))

# BUSI, ISIC; RSNA pneumonia and VinDr-CXR
for kind, number in (("benign", 1), ("benign", 2), ("malignant", 1), ("normal", 1)):
    picture(f"busi/{kind}/{kind} ({number}).png", photo())
    picture(f"busi/{kind}/{kind} ({number})_mask.png", 255 * mask3d()[5] * (kind != "normal"))
for number, part in ((1, "Training"), (2, "Training"), (3, "Test")):
    picture(f"isic/ISIC2018_Task1-2_{part}_Input/ISIC_{number:07d}.jpg", photo())
    picture(f"isic/ISIC2018_Task1_{part}_GroundTruth/ISIC_{number:07d}_segmentation.png", 255 * mask3d()[5])
for path, uid in (
    ("rsna_pneumonia/stage_2_train_images/p1.dcm", "1.2.826.5"),
    ("rsna_pneumonia/stage_2_train_images/p2.dcm", "1.2.826.6"),
    ("vindr_cxr/train/i1.dicom", "1.2.826.7"),
    ("vindr_cxr/train/i2.dicom", "1.2.826.8"),
):
    (file,) = slices(str(Path(path).parent), photo()[None].astype(np.int16), uid)
    file.rename(OUT / path)
rows = f"p1,{x0}.0,{y0}.0,{x1 - x0}.0,{y1 - y0}.0,1\np2,,,,,0\n"
text("rsna_pneumonia/stage_2_train_labels.csv", "patientId,x,y,width,height,Target\n" + rows)
rows = "".join(f"i1,R{rater},Mass,{x0},{y0},{x1},{y1}\ni2,R{rater},No finding,,,,\n" for rater in (1, 2, 3))
text("vindr_cxr/annotations/annotations_train.csv", "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\n" + rows)

# A mosaic of crops
for number in (1, 2, 3):
    volume(f"mosaic/crops/images/c{number}.nii.gz", scan())
    volume(f"mosaic/crops/labels/c{number}.nii.gz", mask3d())
text("mosaic/crops/meta.csv", "file,patient_id,rating\nc1.nii.gz,p1,2\nc2.nii.gz,p2,5\nc3.nii.gz,p3,3\n")
values = {
    "source": "crops",
    "options": ["values=instances", "class_column=rating", "class_from=3", "classes=benign,malignant"],
    "canvas": [16, 64, 64],
    "spacing": [2, 1, 1],
    "canvases": 2,
    "folds": 3,
}
text("mosaic/mosaic.json", json.dumps(values))

# DeepLesion
columns = (
    *("File_name", "Patient_index", "Study_index", "Series_ID", "Key_slice_index", "Measurement_coordinates"),
    *("Bounding_boxes", "Lesion_diameters_Pixel_", "Normalized_lesion_location", "Coarse_lesion_type"),
    *("Possibly_noisy", "Slice_range", "Spacing_mm_px_", "Image_size", "DICOM_windows", "Patient_gender"),
    *("Patient_age", "Train_Val_Test"),
)
(OUT / "deeplesion").mkdir(exist_ok=True)
with (OUT / "deeplesion" / "DL_info.csv").open("w") as file:
    writer = csv.writer(file)
    writer.writerow(columns)
    for patient, part in ((1, 1), (2, 2), (3, 3)):
        points, box = "17, 14, 19, 14, 18, 13, 18, 15", "12, 8, 24, 20"
        writer.writerow([f"{patient:06d}_01_01_005.png", patient, 1, 1, 5, points, box, "2, 2", "0.5, 0.5, 0.5", 5, 0,
                         "1, 12", "1, 1, 2", "40, 32", "-175, 275", "F", 60, part])  # fmt: skip
        picture(f"deeplesion/Images_png/{patient:06d}_01_01/005.png", (scan()[5].astype(int) + 32768).astype(np.uint16))
        picture(f"deeplesion_jpg/{patient:06d}_01_01_005.jpg", photo())
        text(f"deeplesion_jpg/{patient:06d}_01_01_005.tru", f"5 {y0 / 32} {x0 / 40} {y1 / 32} {x1 / 40}\n")

# DICOM: a structure set; LIDC-IDRI; Pancreas-CT
slices("lidc/LIDC-IDRI-0001/ct", scan(), "1.2.826.1")
edge = [(x, y) for x in range(x0 - 1, x1 + 1) for y in (y0 - 1, y1)]
outline = [
    *edge[::2],
    *((x1, y) for y in range(y0, y1)),
    *edge[::-2],
    *((x0 - 1, y) for y in range(y1 - 1, y0 - 1, -1)),
]
points = "".join(f"<edgeMap><xCoord>{x}</xCoord><yCoord>{y}</yCoord></edgeMap>" for x, y in outline)
rois = "".join(
    f"<roi><imageZposition>{2 * z}</imageZposition><inclusion>TRUE</inclusion>{points}</roi>" for z in range(z0, z1)
)
nodule = (
    f"<unblindedReadNodule><characteristics><malignancy>4</malignancy></characteristics>{rois}</unblindedReadNodule>"
)
sessions = f"<readingSession>{nodule}</readingSession>" * 4
series = "<ResponseHeader><SeriesInstanceUid>1.2.826.1</SeriesInstanceUid></ResponseHeader>"
text("lidc/LIDC-IDRI-0001/001.xml", f"<LidcReadMessage>{series}{sessions}</LidcReadMessage>")

slices("pancreas_ct/PANCREAS_0001", scan(), "1.2.826.2")
volume("pancreas_ct/labels/label0001.nii.gz", mask3d())

import highdicom  # noqa: E402
from pydicom import dcmread  # noqa: E402
from pydicom.sr.codedict import codes  # noqa: E402

sources = [dcmread(file) for file in slices("dicom/patient_1/ct", scan(), "1.2.826.3")]
manual = highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
segment = highdicom.seg.SegmentDescription(1, "nodule", codes.SCT.Lesion, codes.SCT.Lesion, manual)
highdicom.seg.Segmentation(
    source_images=sources, pixel_array=mask3d(), segmentation_type="BINARY", segment_descriptions=[segment],
    series_instance_uid="1.2.826.4", series_number=2, sop_instance_uid="1.2.826.4.1", instance_number=1,
    manufacturer="x", manufacturer_model_name="x", software_versions="1", device_serial_number="1",
).save_as(OUT / "dicom" / "patient_1" / "seg.dcm")  # fmt: skip
