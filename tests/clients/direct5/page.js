// Uppy 5 with its AWS S3 plugin, as a page has it. Bundled by the test.
import Uppy from '@uppy/core'
import AwsS3 from '@uppy/aws-s3'

window.sendFiles = async (endpoint, token, files, single) => {
  const uppy = new Uppy().use(AwsS3, {
    endpoint, headers: { Authorization: `Bearer ${token}` }, shouldUseMultipart: !single, retryDelays: [0, 100], getChunkSize: () => 5 * 2 ** 20 })
  return window.told(uppy, files)
}

window.told = async (uppy, files) => {
  for (const { name, size, folder } of files) {
    const bytes = new Uint8Array(size)
    for (let at = 0; at < size; at++) bytes[at] = (at * 7 + (at >> 8)) & 255
    uppy.addFile({ name, type: 'text/plain', data: new File([bytes], name), meta: folder ? { relativePath: `${folder}/${name}` } : { album: 'summer' } })
  }
  const { successful, failed } = await uppy.upload()
  return { successful: successful.map((file) => [file.name, file.uploadURL, file.response?.body?.key]), failed: failed.map((file) => [file.name, file.error]) }
}
