/** The store of a config, opened for one command; also while no instance runs. */
import type { LoadedConfig } from '../../config/load.ts'
import { createLog } from '../../log.ts'
import { openStore } from '../../store/open.ts'
import { Records } from '../../store/records.ts'

export async function withRecords(
  loaded: LoadedConfig,
  work: (records: Records) => Promise<number>,
): Promise<number> {
  const log = createLog({ level: 'warn', format: 'auto' })
  const records = new Records(await openStore(loaded.config.store, loaded.baseDir, log), log)
  try {
    return await work(records)
  } finally {
    await records.close()
  }
}
