"""Reads a log by py123d's own API and writes it again by that: run in an environment of that library, not in ours.

python by_py123d.py LOGS NEW_LOGS CAMERA_CODEC LIDAR_CODEC
"""

import sys
from pathlib import Path

import msgpack
from py123d.api.scene.arrow.arrow_log_writer import ArrowLogWriter
from py123d.api.scene.arrow.modalities.arrow_camera import ArrowCameraReader
from py123d.api.scene.arrow.modalities.arrow_lidar import ArrowLidarReader
from py123d.api.scene.arrow.utils.log_writer_config import LogWriterConfig
from py123d.api.utils.arrow_helper import get_lru_cached_arrow_table
from py123d.datatypes import LogMetadata, Timestamp
from py123d.datatypes.detections.box_detection_label import DefaultBoxDetectionLabel
from py123d.datatypes.detections.box_detections import BoxDetectionAttributes, BoxDetectionSE3, BoxDetectionsSE3
from py123d.datatypes.detections.box_detections_metadata import BoxDetectionsSE3Metadata
from py123d.datatypes.sensors.base_camera import camera_metadata_from_dict
from py123d.datatypes.sensors.lidar import LidarID, LidarMergedMetadata, LidarMetadata
from py123d.datatypes.vehicle_state.ego_state import EgoStateSE3
from py123d.datatypes.vehicle_state.ego_state_metadata import EgoStateSE3Metadata
from py123d.geometry.bounding_box import BoundingBoxSE3
from py123d.geometry.pose import PoseSE3
from py123d.parser.base_dataset_parser import ModalitiesSync

IDS = {"pcam_f0": 0, "pcam_l0": 2, "fmcam_r": 11}


def main(logs, new_logs, camera_codec, lidar_codec):
    (folder,) = Path(logs).glob("*/*")
    tables = {path.stem: get_lru_cached_arrow_table(path) for path in folder.glob("*.arrow")}
    config = LogWriterConfig(camera_store_option=camera_codec, lidar_store_option="binary", lidar_codec=lidar_codec)
    writer = ArrowLogWriter(config, new_logs, Path(new_logs).parent / "sensors")
    assert writer.reset(LogMetadata("nuscenes", folder.parent.name, folder.name, None))
    vehicle = EgoStateSE3Metadata("van", 2.0, 5.0, 2.0, 3.0, PoseSE3.identity(), PoseSE3.identity())
    lidars = LidarMergedMetadata({LidarID.LIDAR_TOP: LidarMetadata("top", LidarID.LIDAR_TOP)})
    labels = BoxDetectionsSE3Metadata(DefaultBoxDetectionLabel)
    cameras = {}
    for name, number in IDS.items():
        fields = msgpack.unpackb(tables[f"camera.{name}"].schema.metadata[b"metadata"])
        cameras[name] = camera_metadata_from_dict(fields | {"camera_id": number})
    for row in tables["sync"].to_pylist():
        ego = tables["ego_state_se3"].slice(row["ego_state_se3"], 1).to_pylist()[0]
        now = Timestamp.from_us(ego["ego_state_se3.timestamp_us"])
        found = [EgoStateSE3.from_imu(PoseSE3.from_list(ego["ego_state_se3.imu_se3"]), vehicle, now)]
        boxes = tables["box_detections_se3"].slice(row["box_detections_se3"], 1).to_pylist()[0]
        found.append(BoxDetectionsSE3([_box(boxes, 0), _box(boxes, 1)], now, labels))
        found.append(
            ArrowLidarReader.read_at_index(
                row["lidar.lidar_merged"], tables["lidar.lidar_merged"], lidars, "nuscenes", log_dir=folder
            )
        )
        for name, metadata in cameras.items():
            table = tables[f"camera.{name}"]
            found.append(
                ArrowCameraReader.read_at_index(row[f"camera.{name}"], table, metadata, "nuscenes", log_dir=folder)
            )
        writer.write_sync(ModalitiesSync(Timestamp.from_us(row["sync.timestamp_us"]), found))
    writer.close()


def _box(boxes, number):
    *pose, length, width, height = boxes["box_detections_se3.bounding_box_se3"][number]
    token = boxes["box_detections_se3.track_token"][number]
    attributes = BoxDetectionAttributes(DefaultBoxDetectionLabel.VEHICLE, token)
    return BoxDetectionSE3(attributes, BoundingBoxSE3(PoseSE3.from_list(pose), length, width, height))


if __name__ == "__main__":
    main(*sys.argv[1:])
