// One upload with tus-js-client, as its README has it: node upload.mjs '{"file": …, "options": {…}, …}'.
// `stopAt`: abort once so many bytes are on their way; `terminate`: and end the upload there. `stream`: a stream of unknown length.
// `findBefore`: go on with what the URL storage knows. Prints what came of it, with every request that was made.
import { createReadStream } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { PassThrough } from 'node:stream'
import * as tus from 'tus-js-client'

const given = JSON.parse(process.argv[2])
const file = () => createReadStream(given.file)
const source = given.stream ? file().pipe(new PassThrough()) : given.buffer ? await readFile(given.file) : file()
const requests = []
const urlStorage = given.urls ? new tus.FileUrlStorage(given.urls) : undefined

const told = await new Promise((resolve) => {
  const upload = new tus.Upload(source, {
    retryDelays: null,
    ...given.options,
    ...(urlStorage ? { urlStorage } : {}),
    onAfterResponse: (request, response) => {
      requests.push([request.getMethod(), response.getStatus()])
    },
    onProgress: (sent) => {
      if (given.stopAt !== undefined && sent >= given.stopAt) {
        upload.abort(given.terminate === true).then(() => resolve({ aborted: sent, url: upload.url }))
      }
    },
    onError: (error) => resolve({ error: error.message, url: upload.url }),
    onSuccess: ({ lastResponse }) => resolve({ url: upload.url, file: lastResponse.getHeader('Carboy-File') ?? null }),
  })
  if (!given.findBefore) {
    upload.start()
    return
  }
  upload.findPreviousUploads().then((before) => {
    if (before.length) upload.resumeFromPreviousUpload(before[0])
    upload.start()
  })
})
console.log(JSON.stringify({ ...told, requests }))
process.exit(0)
