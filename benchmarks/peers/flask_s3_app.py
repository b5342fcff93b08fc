"""The usual Flask code for files in S3, with boto3's transfers as its documentation shows them."""

import os
import tempfile

import boto3
from flask import Flask, Response, jsonify, request, send_file
from werkzeug.utils import secure_filename

app = Flask(__name__)
s3 = boto3.client("s3")
BUCKET = os.environ["BUCKET"]


@app.post("/upload")
def upload():
    if "file" not in request.files:
        return jsonify({"message": "No file uploaded"}), 400
    file = request.files["file"]
    name = secure_filename(file.filename)
    s3.upload_fileobj(file, BUCKET, name)
    return jsonify({"message": f"File {name} uploaded successfully"})


@app.post("/stored")
def stored():
    """A file that is there already: the same bytes without HTTP before them."""
    s3.upload_file(os.environ["PAYLOAD"], BUCKET, "stored.bin")
    return jsonify({"message": "File uploaded successfully"})


@app.get("/download/<path:name>")
def download(name):
    file = tempfile.TemporaryFile()  # noqa: SIM115 - send_file closes it
    s3.download_fileobj(BUCKET, name, file)
    file.seek(0)
    return send_file(file, download_name=os.path.basename(name), mimetype="application/octet-stream")


@app.get("/stream/<path:name>")
def stream(name):
    answer = s3.get_object(Bucket=BUCKET, Key=name)
    return Response(answer["Body"].iter_chunks(1 << 20), mimetype="application/octet-stream",
                    headers={"Content-Length": str(answer["ContentLength"])})
