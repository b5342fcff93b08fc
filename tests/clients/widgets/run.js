// Each widget sends one file, and tells how it ended. `fail` makes the browser's own requests fail as networks do.
"use strict";

Dropzone.autoDiscover = false;

function made({ name, size }) {
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at++) bytes[at] = (at * 7 + (at >> 8)) & 255;
  return new File([bytes], name);
}

const element = () => document.getElementById("here").appendChild(document.createElement("div"));

window.run = {
  dropzone(url, token, file, options) {
    return new Promise((resolve) => {
      const zone = new Dropzone(element(), { url, headers: { Authorization: `Bearer ${token}` }, ...options });
      zone.on("success", (file, answer) => resolve({ ok: true, answer }));
      zone.on("error", (file, message, xhr) => resolve({ ok: false, message, status: xhr && xhr.status }));
      zone.addFile(made(file));
    });
  },

  resumablejs(url, token, file, options) {
    return new Promise((resolve) => {
      const sender = new Resumable({ target: url, headers: { Authorization: `Bearer ${token}` }, minFileSize: 0, ...options });
      let sent = 0;
      sender.on("fileRetry", () => sent++);
      sender.on("fileSuccess", (file, answer) => resolve({ ok: true, answer, retries: sent }));
      sender.on("fileError", (file, answer) => resolve({ ok: false, answer, retries: sent }));
      sender.on("fileAdded", () => sender.upload());
      const one = made(file);
      if (file.folder) Object.defineProperty(one, "relativePath", { value: `${file.folder}/${file.name}` });
      sender.addFile(one);
    });
  },

  flowjs(url, token, file, options) {
    return new Promise((resolve) => {
      const sender = new Flow({ target: url, headers: { Authorization: `Bearer ${token}` }, ...options });
      sender.on("fileSuccess", (file, answer) => resolve({ ok: true, answer }));
      sender.on("fileError", (file, answer) => resolve({ ok: false, answer }));
      sender.on("filesSubmitted", () => sender.upload());
      const one = made(file);
      if (file.folder) one.relativePath = `${file.folder}/${file.name}`;
      sender.addFile(one);
    });
  },

  async filepond(url, token, file, options) {
    const pond = FilePond.create(element(), {
      server: { url, headers: { Authorization: `Bearer ${token}` } }, instantUpload: false, allowRevert: true, ...options });
    window.pond = pond;
    try {
      await pond.addFile(made(file));
      const done = await pond.processFile();
      return { ok: true, id: done.serverId };
    } catch (error) {
      return { ok: false, message: String(error && error.error ? error.error.code : error) };
    }
  },

  async revert() {
    const reverted = new Promise((resolve) => pond.on("processfilerevert", () => resolve(true)));
    pond.removeFile({ revert: true });
    return reverted;
  },

  async load(url, token, id, type) {
    const pond = FilePond.create(element(), { server: { url, headers: { Authorization: `Bearer ${token}` } } });
    try {
      const item = await pond.addFile(id, { type });
      return { ok: true, name: item.filename, size: item.fileSize };
    } catch (error) {
      return { ok: false, message: String(error && error.error ? error.error.code : error) };
    }
  },
};
