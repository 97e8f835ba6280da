// What OHIF's libraries make of a structured report: `node BUNDLE REPORT IMAGE...` prints the annotations as JSON.
import fs from 'node:fs';
import dcmjs from 'dcmjs';
import { adaptersSR } from '@cornerstonejs/adapters';
import { metaData } from '@cornerstonejs/core';

function open(path) {
  const content = fs.readFileSync(path);
  const file = dcmjs.data.DicomMessage.readFile(content.buffer.slice(content.byteOffset, content.byteOffset + content.length));
  return dcmjs.data.DicomMetaDictionary.naturalizeDataset(file.dict);
}

const [report, ...images] = process.argv.slice(2);
const planes = {};
const imageIds = {};
for (const image of images.map(open)) {
  for (let frame = 1; frame <= (image.NumberOfFrames ?? 1); frame += 1) {
    const shared = image.SharedFunctionalGroupsSequence?.[0];
    const own = image.PerFrameFunctionalGroupsSequence?.[frame - 1];
    const { ImageOrientationPatient: axes } = shared ? shared.PlaneOrientationSequence[0] : image;
    const { ImagePositionPatient: position } = own ? own.PlanePositionSequence[0] : image;
    const { PixelSpacing: spacing } = shared ? shared.PixelMeasuresSequence[0] : image;
    const imageId = `file:${image.SOPInstanceUID}:${frame}`;
    imageIds[`${image.SOPInstanceUID}:${frame}`] = imageId;
    planes[imageId] = {
      frameOfReferenceUID: image.FrameOfReferenceUID,
      rows: image.Rows,
      columns: image.Columns,
      imagePositionPatient: position.map(Number),
      rowCosines: axes.slice(0, 3).map(Number),
      columnCosines: axes.slice(3).map(Number),
      rowPixelSpacing: Number(spacing[1]),
      columnPixelSpacing: Number(spacing[0]),
    };
  }
}
metaData.addProvider((type, imageId) => (type === 'imagePlaneModule' ? planes[imageId] : undefined));
const found = adaptersSR.Cornerstone3D.MeasurementReport.generateToolState(open(report), imageIds, metaData);
const annotations = Object.entries(found).flatMap(([tool, all]) =>
  all.map(one => ({
    tool,
    uid: one.TrackingUniqueIdentifier,
    finding: one.finding?.CodeMeaning,
    image: one.sopInstanceUid,
    frame: Number(one.annotation.data.frameNumber ?? 1),
    points: one.annotation.data.handles.points.map(point => Array.from(point)),
  }))
);
console.log(JSON.stringify(annotations));
