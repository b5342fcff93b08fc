"""The upload code of the usual Flask tutorial, and its raw-body variant."""

import os

from flask import Flask, jsonify, request
from werkzeug.utils import secure_filename

app = Flask(__name__)
UPLOAD_FOLDER = os.environ["STORE"]


@app.post("/upload")
def upload():
    if "file" not in request.files:
        return jsonify({"message": "No file uploaded"}), 400
    file = request.files["file"]
    if file.filename == "":
        return jsonify({"message": "No selected file"}), 400
    name = secure_filename(file.filename)
    file.save(os.path.join(UPLOAD_FOLDER, name))
    return jsonify({"message": f"File {name} uploaded successfully"})


@app.put("/raw/<name>")
def raw(name):
    with open(os.path.join(UPLOAD_FOLDER, secure_filename(name)), "wb", buffering=0) as file:
        while chunk := request.stream.read(1 << 20):
            file.write(chunk)
    return jsonify({"message": f"File {name} uploaded successfully"})
