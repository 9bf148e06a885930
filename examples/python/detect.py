"""Finds objects in a picture: `python detect.py MODEL PICTURE [SCORE]`, one JSON object out."""

import json
import sys

from flyweight.runtime.load import load_predictor

model, picture, score = (*sys.argv[1:], "0.3")[:3]
predictor = load_predictor(model)
found = predictor.predict(picture, score=float(score))
print(json.dumps({"picture": picture, "detections": found.to_list(predictor.class_names)}))
