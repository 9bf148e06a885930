"""What every room shares: boxes, detections, images, manifests, errors. numpy and OpenCV only."""
