// Uppy with its tus plugin, as a page has it. Bundled by the test.
import Uppy from '@uppy/core'
import Tus from '@uppy/tus'

window.sendFiles = async (endpoint, headers, files) => {
  const uppy = new Uppy().use(Tus, { endpoint, headers, chunkSize: 100_000, retryDelays: [0, 100], limit: 3 })
  for (const { name, text, folder } of files) {
    const data = new File([text], name, { type: 'text/plain' })
    uppy.addFile({ name, type: 'text/plain', data, meta: folder ? { relativePath: `${folder}/${name}` } : {} })
  }
  const { successful, failed } = await uppy.upload()
  return { successful: successful.map((file) => [file.name, file.uploadURL]), failed: failed.map((file) => [file.name, file.error]) }
}
